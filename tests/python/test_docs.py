"""The documentation holds together: every link leads somewhere, every page can be found from docs/README.md."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


def links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [(page.parent / target).resolve() for target in LINK.findall(text) if "://" not in target]


def test_every_link_leads_to_a_file():
    broken = [f"{page.relative_to(ROOT)}: {target}" for page in PAGES for target in links(page) if not target.exists()]
    assert broken == []


def test_every_page_can_be_found_from_the_index():
    found, queue = set(), [(ROOT / "docs" / "README.md").resolve()]
    while queue:
        page = queue.pop()
        if page not in found:
            found.add(page)
            queue += [target for target in links(page) if target.suffix == ".md" and target.exists()]
    lost = [str(page.relative_to(ROOT)) for page in PAGES[1:] if page.resolve() not in found]
    assert lost == [], "give these a line in docs/README.md"


def test_the_tests_that_a_page_names_are_there():
    named = re.findall(r"`(test_\w+)::(test_\w+)`", (ROOT / "docs" / "measure.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for file, name in named:
        (path,) = (ROOT / "tests" / "python").rglob(f"{file}.py")
        assert f"def {name}(" in path.read_text(encoding="utf-8"), name
