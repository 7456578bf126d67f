"""Search arms on replayed traces: the built-in agent, random programs and knobs alone, several seeds each, no model run. Prints a table and
writes the curves of hypervolume by proposal.

usage: search_arms.py ARMS.json [--rounds 12] [--seeds 5] [--picture ARMS.svg]
What ARMS.json holds already is not searched again. Traces that are not kept are recorded first (a model is loaded once).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from vortex_attention.discover import arms
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.replay import ReplayLaboratory
from vortex_attention.measure.provenance import provenance


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", default=list(arms.ARMS), choices=list(arms.ARMS))
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", type=pathlib.Path)
    asked = parser.parse_args()
    workload = Workload(
        length=asked.length,
        context=asked.length,
        screen_items=2,
        gate_items=4,
        confirm_items=4,
        rounds=2,
        threads=asked.threads,
    )
    settings = {"workload": workload.to_json(), "rounds": asked.rounds, "variants": asked.variants}
    kept = json.loads(asked.output.read_text()) if asked.output.exists() else {"settings": settings, "found": []}
    if kept["settings"] != settings:
        print(f"search_arms.py: {asked.output} was made with other settings; name another file", file=sys.stderr)
        return 2
    laboratory = ReplayLaboratory(workload, lambda what, done, of: print(f"{what} {done}/{of}", file=sys.stderr))
    facts = provenance()
    found = [arms.Searched(**{**one, "curve": tuple(one["curve"])}) for one in kept["found"]]
    for seed in range(1, asked.seeds + 1):
        for arm in asked.arms:
            if any(one.arm == arm and one.seed == seed for one in found):
                continue
            began = time.perf_counter()
            found.append(arms.search(arm, seed, laboratory, asked.rounds, asked.variants, environment=facts))
            print(f"{arm}, seed {seed}: {found[-1].curve[7]:.4f} → {found[-1].curve[-1]:.4f}, held out {found[-1].held_out:.4f}, "
                  f"{time.perf_counter() - began:.0f} s", file=sys.stderr)  # fmt: skip
            part = asked.output.with_suffix(".part")
            part.write_text(
                json.dumps({"settings": settings, "provenance": facts, "found": [vars(one) for one in found]})
            )
            part.replace(asked.output)
    found = [one for one in found if one.arm in asked.arms and one.seed <= asked.seeds]
    print(
        "| arm | seeds | ready flows | half-way | end | on held-out texts | ahead of random programs |\n|---|---|---|---|---|---|---|"
    )
    for row in arms.compared(found):
        shown = [
            "–" if row[name] is None else "{:.4f} [{:.4f}, {:.4f}]".format(*row[name])
            for name in ("start", "half", "end", "held_out", "ahead")
        ]
        print(f"| {row['arm']} | {row['seeds']} | {' | '.join(shown)} |")
    if asked.picture:
        title = f"Hypervolume by proposal on replayed traces ({laboratory.model[0]}, {asked.length} tokens, {asked.seeds} seeds)"
        asked.picture.write_text(arms.picture(found, title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
