"""Writes tests/text/flows/NAME.txt, the program that each ready flow becomes: python tools/ready_flows.py [--check]. With --check it only
says which are not fresh. Lines of files and settings that a flow leaves alone are not in them."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "text" / "flows"
SHOWN = ("page_size", "budget", "budget_ratio", "sinks", "recent", "reuse")  # of the settings


def text_of(program) -> str:
    """Its program as text, without lines of files."""
    lines = []
    for line in program.text().splitlines():
        if line.startswith(("%", "summary", "score", "select", "rest", "budget", "state", "weights")):
            lines.append(re.sub(r' ; ("[^"]*":)?\d+$', "", line))
        elif line.startswith("config"):
            settings = dict(part.split("=", 1) for part in line.split()[1:])
            lines.append("config " + " ".join(f"{name}={settings[name]}" for name in SHOWN if name in settings))
    return "\n".join(lines) + "\n"


def main() -> int:
    sys.path.insert(0, str(ROOT / "python"))
    from vortex_attention import flows

    stale = []
    for name in flows.names():
        path, text = FOLDER / f"{name}.txt", text_of(flows.load_flow(name))
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    gone = [path for path in FOLDER.glob("*.txt") if path.stem not in flows.names()]
    for path in gone:
        stale.append(path.stem)
        if "--check" not in sys.argv:
            path.unlink()
    if "--check" in sys.argv and stale:
        print(f"stale: {', '.join(stale)}; run python tools/ready_flows.py and read what changed")
        return 1
    print(
        "the texts of the ready flows are fresh" if "--check" in sys.argv else f"written: {', '.join(stale) or 'none'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
