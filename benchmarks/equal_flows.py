"""The A/A campaign: flows that differ in their hash and not in what they do must bring no winner, and planted differences must be
found. Records the noise of this machine (A B B A of equal flows, losses of needles), then resamples campaigns of 92 flows from it
through the code that decides: measure/campaign.py, or discover/claims.py with the frontier that chooses what is confirmed.

usage: equal_flows.py speeds NOISE.json [--flows 6] [--rounds 12]       measures: keep the machine quiet
       equal_flows.py losses NOISE.json [--items 24] [--length 1024]    measures accuracy, added to the file
       equal_flows.py campaigns NOISE.json [--campaigns 1000]           computes
       equal_flows.py studies NOISE.json [--campaigns 1000]             the same through what a study of discovery claims in the end
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from vortex_attention.measure.campaign import Plan, decide  # noqa: E402
from vortex_attention.measure.power import effective_deviation  # noqa: E402
from vortex_attention.measure.rounds import log_ratio  # noqa: E402

FLOW = """import vortex_attention as vx
class Equal{number}(vx.vFlow):
    page_size, budget = 16, 32
    def summarize(self, page):
        page.c = page.k.mean("token")
    def score(self, q, page):
        share = vx.dot(q, page.c, over="dim").softmax("page").sum("head")
        return vx.where(page.index < {bound}, share, -share)      # no page has such an index
"""


def equal_flows(folder: pathlib.Path, count: int) -> list[str]:
    paths = []
    for number in range(count):
        path = folder / f"equal_{number}.py"
        path.write_text(FLOW.format(number=number, bound=1_000_000 + number))
        paths.append(str(path))
    return paths


def say(what: str, done: int, of: int) -> None:
    print(f"{what} {done}/{of}", file=sys.stderr)


def speeds(arguments) -> None:
    """Ratios of equal flows to one of them, A B B A by A B B A."""
    from vortex_attention.bench import decode
    from vortex_attention.cli import experiment
    from vortex_attention.measure.provenance import provenance

    with tempfile.TemporaryDirectory() as folder:
        paths = equal_flows(pathlib.Path(folder), arguments.flows)
        wanted = experiment.Settings(
            flows=paths, items=0, batch=arguments.batch, contexts=(arguments.context,), steps=arguments.steps
        )
        job = experiment.Experiment(wanted, say)
    assert len({flow.hash for flow in job.flows.values()}) == arguments.flows, "the flows must differ in their hash"
    incumbent, *_ = job.flow_ids
    arms = decode.bench_decode(
        job.workbench,
        job.loaded.model,
        {name: (flow, math.inf) for name, flow in job.flow_ids.items()},
        batch=arguments.batch,
        context=arguments.context,
        rounds=arguments.rounds,
        steps=arguments.steps,
        progress=lambda: None,
        filled=lambda _: None,
        incumbent=incumbent,
    )
    assert len({arm.blocks[0].digest for arm in arms[1:]}) == 1, "the flows must do the same"
    found = {
        "provenance": provenance(),
        "log_ratios": [[round(log_ratio([block.seconds for block in quartet]), 6) for quartet in arm.beside] for arm in arms[2:]],
    }  # fmt: skip
    arguments.noise.write_text(json.dumps(found) + "\n")


def losses(arguments) -> None:
    """Answer log-probability of such a flow − full attention's, needle by needle, added to the file."""
    from vortex_attention.cli import measure

    found = json.loads(arguments.noise.read_text())
    with tempfile.TemporaryDirectory() as folder:
        paths = equal_flows(pathlib.Path(folder), 1)
        options = {"items": arguments.items, "length": arguments.length, "seed": 100}
        result = measure.accuracy(
            measure.Wanted(suite="needle", flows=paths, controls=False, snapshots=0.0, options=options), say
        )
    full, arm = result["arms"]
    found["losses"] = [
        round(ours["log_probability"] - theirs["log_probability"], 6)
        for ours, theirs in zip(arm["outcomes"], full["outcomes"])
    ]
    found["needles"] = options
    arguments.noise.write_text(json.dumps(found) + "\n")


STRETCH = 7


def stretches(generator, values: np.ndarray, count: int) -> np.ndarray:
    """Runs of consecutive values from random places on, so that the drift of the machine stays in."""
    starts = generator.integers(len(values), size=-(-count // STRETCH))  # each value equally often: stretches go round
    return values[(starts[:, None] + np.arange(STRETCH)) % len(values)].ravel()[:count]


def campaigns(
    noise: dict, number: int, *, flows: int = 92, faster: float = 0.0, worse: float = 0.0, seed: int = 1
) -> dict:
    """Shares of campaigns with a false winner, with the planted faster flow among the winners, with the worse flow found."""
    generator = np.random.default_rng(seed)
    rounds = np.concatenate([np.asarray(values) - np.mean(values) for values in noise["log_ratios"]])
    losses = np.asarray(noise["losses"])
    losses = losses - losses.mean()  # behaviour-equal flows lose nothing on average
    deviation = effective_deviation(rounds, STRETCH)
    plan = Plan.for_effect(0.03, deviation, flows)
    false = found = caught = 0
    for _ in range(number):

        def speed(candidate, first, count):
            return stretches(generator, rounds, count) + (math.log1p(faster) if candidate == 0 else 0.0)

        def accuracy(candidate, first, count):
            return generator.choice(losses, count) - (worse if candidate == 1 else 0.0)

        decision = decide(flows, speed, accuracy, plan)
        false += any(not (faster and winner == 0) for winner in decision.winners)
        found += 0 in decision.winners
        caught += 1 in decision.worse
    return {"campaigns": number, "plan": vars(plan), "deviation": deviation, "loss_deviation": float(losses.std(ddof=1)),
            "false": false / number, "found": found / number, "caught": caught / number}  # fmt: skip


def study(
    noise: tuple[np.ndarray, np.ndarray], generator, sizes: dict, flows: int, planted: dict[str, float], chosen: bool
) -> list:
    """What a study of `flows` equal flows claims, each measured on items and rounds of its own. Flow 0 stands for the ready flows; by the planted
    effects 1 is `faster`, 2 loses `worse` nat, 3 gains `better` nat, 4 gains it too and takes `slower` longer. chosen: the frontier chooses what is confirmed; else the first are, which is the same in law
    where all flows are equal, and takes no time."""
    from vortex_attention.discover.claims import CONFIRMATIONS, Sample, claims, to_confirm
    from vortex_attention.discover.frontier import Measured, frontier
    from vortex_attention.discover.gates import BESIDE

    rounds, losses = noise

    def faster_than_ready(flow: int) -> float:
        return {1: math.log1p(planted["faster"]), 4: -math.log1p(planted["slower"])}.get(flow, 0.0)

    def better_than_ready(flow: int) -> float:
        return {2: -planted["worse"], 3: planted["better"], 4: planted["better"]}.get(flow, 0.0)

    def speed(flow: int, count: int) -> tuple[float, ...]:
        return tuple(math.log(3.0) + stretches(generator, rounds, count) + faster_than_ready(flow))

    def gains(flow: int, count: int) -> tuple[float, ...]:
        return tuple(generator.choice(losses, count) + better_than_ready(flow))

    def measured(flow: int, what: str, values: tuple[float, ...], ratios: tuple[float, ...]) -> Measured:
        return Measured(str(flow), {f"{what} {flow} {index}": value for index, value in enumerate(values)}, ratios)

    def sample(flow: int) -> Sample:
        count = sizes["confirm_rounds"]
        beside = tuple(stretches(generator, rounds, BESIDE * count) + faster_than_ready(flow))
        answered = {f"needle {index}": gain for index, gain in enumerate(gains(flow, sizes["confirm_items"]))}
        return Sample(flow, answered, speed(flow, count), flow == 0, {} if flow == 0 else {0: beside})

    if not chosen:
        return claims([sample(flow) for flow in range(CONFIRMATIONS)])
    shown = [measured(flow, "gate", gains(flow, sizes["items"]), speed(flow, sizes["rounds"])) for flow in range(flows)]
    return claims([sample(flow) for flow in to_confirm(frontier(shown, draws=60, volume=False), (), {0})])


DEFAULT = {"items": 24, "rounds": 3, "confirm_items": 48, "confirm_rounds": 6}  # of vortex discover
LARGE = {"items": 24, "rounds": 10, "confirm_items": 120, "confirm_rounds": 24}


NOTHING = {"faster": 0.0, "worse": 0.0, "better": 0.0, "slower": 0.0}


def studies(noise: dict, number: int, sizes: dict, *, spread: float = 0.0, flows: int = 92, seed: int = 1, chosen: bool = True, **effects: float) -> dict:  # fmt: skip
    """Shares of studies that claim what is not so, that a flow is faster or more accurate than the ready one; that claim it of the planted ones,
    each in its own way; and that claim anything of the worse one, or of the slower one. spread: of one round, the recorded noise made so much
    smaller; 0: as it was recorded. effects: of NOTHING, see `study`."""
    from vortex_attention.discover.claims import FASTER, MORE_ACCURATE

    planted = NOTHING | effects
    generator = np.random.default_rng(seed)
    rounds = np.concatenate([np.asarray(values) - np.mean(values) for values in noise["log_ratios"]])
    rounds = rounds * (spread / rounds.std(ddof=1) if spread else 1.0)
    losses = np.asarray(noise["losses"]) - np.mean(noise["losses"])
    true = ({(FASTER, 1)} if planted["faster"] else set()) | ({(MORE_ACCURATE, 3)} if planted["better"] else set())
    counts = dict.fromkeys(("false", "faster found", "better found", "fooled by worse", "fooled by slower"), 0)
    for _ in range(number):
        made = study((rounds, losses), generator, sizes, flows, planted, chosen)
        wins = {(claim.kind, claim.proposal) for claim in made if claim.wins}
        counts["false"] += bool(wins - true)
        counts["faster found"] += (FASTER, 1) in wins
        counts["better found"] += (MORE_ACCURATE, 3) in wins
        counts["fooled by worse"] += any(proposal == 2 for _, proposal in wins)
        counts["fooled by slower"] += any(proposal == 4 for _, proposal in wins)
    shares = {what: count / number for what, count in counts.items()}
    return {
        "studies": number,
        "sizes": sizes,
        "spread": float(rounds.std(ddof=1)),
        "planted": planted,
        "chosen": chosen,
        **shares,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    subs = {name: commands.add_parser(name) for name in ("speeds", "losses", "campaigns", "studies")}
    for sub in subs.values():
        sub.add_argument("noise", type=pathlib.Path)
    for name, default in (("flows", 6), ("rounds", 12), ("steps", 3), ("batch", 4), ("context", 2048)):
        subs["speeds"].add_argument(f"--{name}", type=int, default=default)
    for name, default in (("items", 24), ("length", 1024)):
        subs["losses"].add_argument(f"--{name}", type=int, default=default)
    for name in ("campaigns", "studies"):
        subs[name].add_argument("--campaigns", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.command in ("speeds", "losses"):
        {"speeds": speeds, "losses": losses}[arguments.command](arguments)
        return
    noise = json.loads(arguments.noise.read_text())
    if arguments.command == "studies":
        from vortex_attention.discover.claims import SPEED_MARGIN

        number = arguments.campaigns
        planted = {"faster": 0.03, "worse": 0.2, "better": 0.2, "slower": SPEED_MARGIN}
        for sizes, spread, given in (
            (DEFAULT, 0.0, {"chosen": False}),
            (LARGE, 0.03, {"chosen": False}),
            (DEFAULT, 0.0, {}),
            (LARGE, 0.03, planted),
            (LARGE, 0.03, planted | {"chosen": False}),
        ):
            print(json.dumps(studies(noise, number, sizes, spread=spread, **given)), flush=True)
        return
    print("equal:  ", json.dumps(campaigns(noise, arguments.campaigns)))
    print("planted:", json.dumps(campaigns(noise, arguments.campaigns, faster=0.03, worse=0.2)))


if __name__ == "__main__":
    main()
