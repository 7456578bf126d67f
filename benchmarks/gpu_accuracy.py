"""A model's accuracy under many flows on a GPU, in one process and against the clock: RULER at several lengths, decode drift, speed from the same
contexts, the screen. Parts come in the order they are named; one that the time left is too short for goes without its last arms, or is left
out, and says so.

usage: gpu_accuracy.py MODEL --out FOLDER [--parts ruler:16384,...,speed:30000,drift:16384,beside:4096,screen:4096] [--seconds 360]
       [--items 5] [--seed 7] [--together 65] [--gigabytes 115] [--device cuda] [--more] [--timed LENGTH...] [--arms NAME@BUDGET...]
       gpu_accuracy.py MODEL --draw [--parts ...] [--items 5] [--seed 7]      only draws RULER's questions into the cache

`ruler:30000/1` asks the questions after the first --items of each task, `ruler:30000/2` those after these. With --timed the first questions of
each length (or of those named) that RULER holds side by side are also decoded against the clock, by every arm between two runs of full attention: part speed:LENGTH.
`beside` is RULER of flows whose step differs from their plain flow's: groups first, shared pages, seldom chosen ones, an estimate of the rest.
FOLDER gets accuracy.sqlite, the ledger: what it knows is not measured again, so a run that was cut off is begun again with the same words;
results.jsonl, a line a part: {"part", "seconds", "result"}, the result as `vortex eval --json` gives it, of speed a list of arms; and
screen.log. The screen runs on the CPU in a process of its own beside everything else. accuracy_tables.py makes tables of results.jsonl.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vortex_attention import _core, flows
from vortex_attention.cli import measure
from vortex_attention.errors import VortexError
from vortex_attention.eval import bed as beds
from vortex_attention.eval.arms import Arms
from vortex_attention.eval.ruler.table import TASKS
from vortex_attention.eval.suites import make
from vortex_attention.eval.suites.screen import ScreenSuite  # noqa: F401  imported early: what is slow to import is not timed
from vortex_attention.eval.trace_bed import TraceBed
from vortex_attention.ledger import Ledger
from vortex_attention.models.data import natural_text

SIX = ("slow_means", "centroid", "quest", "sub_centroid", "mean_deviation", "value_norm")
BESIDE = (
    "hierarchical@32",
    "shared_pairs@32",
    "quest@32+refresh_every=4",
    "centroid_rest@32",
    "centroid_rest_groups@32",
)
# In the order in which they are given up when the time is short, the last one first. Those with `reuse` score every second or fourth layer.
MAIN = (
    "random_pages@32",
    "recent_only@32",
    "oracle@32",
    *(f"{name}@{budget}" for budget in (64, 32) for name in SIX),
    "slow_means@128",
    "slow_means@64+reuse=2",
    "slow_means@256",
    "slow_means@512",
    "centroid@128",
    "slow_means@128+reuse=4",
    "sub_centroid@128",
    "centroid@256",
    "centroid@512",
    "slow_means@128+refresh_every=4",
)
# Beside them with --more.
MORE = (
    *(f"{name}@16" for name in SIX),
    "bounding_volumes@32",
    "bounding_volumes@64",
    "streaming@32",
    "random_pages@64",
    "recent_only@64",
)
DRIFT = ("slow_means@32", "random_pages@32", "centroid@32", "recent_only@32", "quest@32")
SCREENED = ("vt", "cwe", "qa_1", "niah_multikey_3", "niah_multivalue")
WIDTHS = (96, 8, 64, 48, 32, 24, 16)  # of steps; a step's linears are compiled for its number of rows
TIMED_STEPS = 32
PARTS = "ruler:16384,ruler:30000,ruler:8192,ruler:4096,speed:30000,drift:16384,beside:4096,speed:16384,screen:4096"


@dataclass(frozen=True)
class Part:
    """block: of RULER's questions, so many of --items are passed over."""

    suite: str
    length: int
    block: int = 0

    @classmethod
    def of(cls, text: str) -> "Part":
        suite, _, rest = text.partition(":")
        length, _, block = rest.partition("/")
        return cls(suite, int(length), int(block or 0))

    def __str__(self) -> str:
        return f"{self.suite}:{self.length}" + (f"/{self.block}" if self.block else "")


def load(text: str) -> flows.LoadedFlow:
    """NAME@BUDGET, or NAME@BUDGET+SETTING=VALUE."""
    name, *settings = text.split("+")
    flow = flows.load_at(name, **dict(setting.split("=") for setting in settings))
    return flow if not settings else flows.renamed(flow, text)


class Clock:
    def __init__(self, seconds: float):
        self.began, self.seconds = time.perf_counter(), seconds

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.began)

    def progress(self, what: str, done: int, of: int) -> None:
        if done == of:
            self.say(what)

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.began:6.1f} s] {text}", flush=True)


def arms_of(suite: str, more: bool) -> tuple[str, ...]:
    if suite == "ruler":
        return (*MAIN, *(MORE if more else ()))
    if suite == "beside":
        return (*BESIDE, "quest@32", "centroid@32")
    if suite == "drift":
        return DRIFT
    return (*MAIN, *(MORE if suite == "screen" else BESIDE))


def in_turn(suite: str, arms: dict) -> Iterator[dict]:
    """Arms of a part, or of each of its runs: of drift one more each time, since an arm takes long; the ledger has those before."""
    if suite != "drift":
        yield arms
        return
    for count in range(1, len(arms) + 1):
        yield dict(list(arms.items())[:count])


def fitting(part: Part, arms: dict, items: int, clock: Clock) -> dict | None:
    """The arms that the time left is enough for; None: not even one."""
    kept = dict(arms)
    while (
        (needed := estimate(part.suite, part.length, items, len(kept))) > clock.left
        and len(kept) > 1
        and part.suite != "drift"
    ):
        kept.popitem()
    if needed > clock.left:
        clock.say(f"{part} is left out: about {needed:.0f} s, {clock.left:.0f} s are left")
        return None
    if len(kept) < len(arms):
        clock.say(
            f"{part} goes without {', '.join(name for name in arms if name not in kept)}: {clock.left:.0f} s are left"
        )
    return kept


def served(bed: beds.Bed, wanted: list[str], clock: Clock) -> dict[str, flows.LoadedFlow]:
    """Flows by name, without those that the device refuses, which are said. Kernels of different flows are compiled side by side."""
    found, refused = {}, {}
    for text in dict.fromkeys(wanted):
        try:
            found[text] = load(text)
        except VortexError as error:
            refused[text] = error
    probe = bed.probe()
    of_kernels = {text.partition("@")[0] + text.partition("+")[2]: flow.program for text, flow in found.items()}
    with ThreadPoolExecutor() as threads:
        for built in [threads.submit(probe.build_ahead, program) for program in of_kernels.values()]:
            built.exception()  # what is refused says so below
    for text, flow in list(found.items()):
        try:
            probe.unload_flow(probe.load_flow(flow.program))
        except VortexError as error:
            refused[text] = error
            del found[text]
    for text, error in refused.items():
        clock.say(f"{text} is left out: {error}")
    return found


def estimate(suite: str, length: int, items: int, arms: int) -> float:
    """Seconds that a run takes, from measured rates of a 1.5B model on an H200: prefill, an arm's answers, steps of 8 sequences."""
    prefill = length / (55_000 - 0.63 * length)
    if suite in ("ruler", "beside"):
        return items * prefill + (arms + 2) * (1.0 + length / 15_000)
    if suite == "drift":  # the text is written with the first arm
        return 8 * prefill + length * (0.0021 + 0.004 * (arms == 1)) + 6
    return 8 * prefill + (0.4 + length / 80_000) * arms + 1


def side_by_side(bed: beds.Bed, arms: dict[str, flows.LoadedFlow], length: int, items: int, chosen) -> int:
    """Items at once: groups of equal size whose KV and summaries the device holds."""
    attention = bed.source.config.attention
    shape = {"head_dim": attention.head_dim, "group": attention.group, "value_dim": attention.value_dim}
    row = {"layers": 1, "heads": attention.group, "kv_heads": 1, "head_dim": attention.head_dim, "context": length}
    page = 4 * attention.head_dim * bed.page_size
    for flow in arms.values():
        compiled = _core.compile_flow(flow.program, **shape)
        page += _core.price(compiled, **row).summary_bytes_per_page * bed.page_size // flow.config.page_size
    of_item = (length // bed.page_size + 32) * page * bed.source.config.layers * attention.kv_heads
    most = max(1, min(chosen.together, int(chosen.gigabytes * 1e9) // of_item))
    return -(-items // -(-items // most))


def speed(bed: beds.Bed, pieces: list[list[int]], loaded: dict[str, flows.LoadedFlow]) -> list[dict]:
    """Of sequences of one length."""
    batch = len(pieces)
    part = bed.with_flows(loaded)
    item = beds.Item("speed", tuple(pieces[0]), 2 * TIMED_STEPS)
    arms = part.prepare([item] * batch, batch=batch, together=batch, lanes=2 * batch)
    return paced(arms, [part.bench.prefill(piece) for piece in pieces])


def paced(arms: Arms, bases: Sequence[int], steps: int = TIMED_STEPS) -> list[dict]:
    """Greedy decoding from all bases side by side, each flow between two runs of full attention: full, flow, flow, full."""
    bench, batch = arms.bench, len(bases)
    length = round(sum(bench.length(base) for base in bases) / batch)

    def seconds(flow: int) -> float:
        sequences = [bench.fork(base, flow) for base in bases]
        try:
            with arms.unrecorded():
                chosen = bench.greedy(sequences, [1] * batch, 2)
                began = time.perf_counter()
                bench.greedy(sequences, chosen[-batch:], steps)
                return (time.perf_counter() - began) / steps
        finally:
            for sequence in sequences:
                bench.release(sequence)

    full = arms.flows["full"]
    seconds(full)  # its graph is captured, and the clocks of the device are up
    rows, all_full = [], []
    for name, flow in arms.flows.items():
        if flow == full:
            continue
        seconds(flow)
        quartet = [seconds(which) for which in (full, flow, flow, full)]
        all_full += [quartet[0], quartet[3]]
        own = (quartet[1] + quartet[2]) / 2
        rows.append({"name": name, "milliseconds": 1e3 * own, "tokens_per_second": batch / own, "batch": batch, "context": length,
                     "ratio": (quartet[0] + quartet[3]) / (quartet[1] + quartet[2])})  # fmt: skip
    middle = sorted(all_full)[len(all_full) // 2] if all_full else seconds(full)
    first = {"name": "full", "milliseconds": 1e3 * middle, "tokens_per_second": batch / middle, "batch": batch, "context": length, "ratio": 1.0,
             "spread": max(all_full, default=middle) / min(all_full, default=middle) - 1}  # fmt: skip
    return [first, *rows]


def measured(chosen, bed: beds.Bed, context, part: Part, arms: dict, clock: Clock, ledger: Ledger, held=None):
    """The result of a part. held: as run_suite calls it."""
    suite, length = "ruler" if part.suite == "beside" else part.suite, part.length
    of_ruler = {"items": chosen.items, "seed": chosen.seed, "tasks": chosen.tasks, "first": part.block * chosen.items}
    if suite == "speed":
        questions = make("ruler", context, length=length, **of_ruler).items()[:8]
        shortest = min(len(question.prompt) for question in questions)
        return speed(bed, [list(question.prompt[:shortest]) for question in questions], arms)
    wanted = measure.Wanted(suite, tuple(arms), chosen.model, device=chosen.device, snapshots=0.0)
    wanted.options = {"length": length, **(of_ruler if suite == "ruler" else {"items": chosen.texts})}
    wanted.together = chosen.texts
    if suite == "ruler":
        wanted.together = side_by_side(bed, arms, length, len(chosen.tasks) * chosen.items, chosen)
    return measure.on_bed(bed.with_flows(arms), context, wanted, clock.progress, ledger, held)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--parts", default=PARTS)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--items", type=int, default=5, help="of each task")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tasks", type=lambda text: tuple(text.split(",")), default=tuple(TASKS), help="of RULER")
    parser.add_argument("--together", type=int, default=65)
    parser.add_argument("--gigabytes", type=float, default=115, help="that KV and summaries may take")
    parser.add_argument("--texts", type=int, default=8, help="of drift")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--arms", nargs="*", help="instead of those of each part")
    parser.add_argument("--more", action="store_true", help="RULER of the arms that are known to lose much, too")
    parser.add_argument(
        "--timed", type=int, nargs="*", help="lengths of RULER that go against the clock, too; none named: all"
    )
    parser.add_argument("--draw", action="store_true")
    parser.add_argument(
        "--warm", type=int, help="only compiles the kernels of steps of so many sequences, into the cache"
    )
    parser.add_argument("--screen-threads", type=int, default=8)
    chosen = parser.parse_args(arguments)
    clock = Clock(chosen.seconds)
    parts = [Part.of(text) for text in chosen.parts.split(",")]
    if chosen.draw:
        draw(chosen, parts, clock)
        return
    if chosen.warm:
        warm(chosen.model, chosen.device, chosen.warm)
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    results = open(chosen.out / "results.jsonl", "a", encoding="utf-8")  # noqa: SIM115  open to the end

    def put(part: str, began: float, result) -> None:
        results.write(json.dumps({"part": part, "seconds": time.perf_counter() - began, "result": result}) + "\n")
        results.flush()
        clock.say(f"{part}: done in {time.perf_counter() - began:.1f} s")

    beside = [start_screen(chosen, part.length) for part in parts if part.suite == "screen"]
    names = {part: list(chosen.arms or arms_of(part.suite, chosen.more)) for part in parts if part.suite != "screen"}
    bed = beds.Bed(chosen.model, {}, device=chosen.device)
    clock.say(f"{bed.name} on {chosen.device} is loaded")
    widths = WIDTHS if any(part.suite in ("ruler", "beside") for part in parts) else (8,)
    for width in widths if chosen.device == "cuda" else ():
        subprocess.Popen(
            ["nice", "-n", "5", sys.executable, __file__, chosen.model, "--device", chosen.device, "--warm", str(width)]
        )
    loaded = served(bed, [name for part in names.values() for name in part], clock)
    clock.say(f"{len(loaded)} arms are compiled")
    context = measure.context_of_bed(bed)
    with Ledger.open(chosen.out / "accuracy.sqlite") as ledger:
        timed: set[int] = set()  # lengths

        def against_the_clock(arms: Arms, items: Sequence[beds.Item], bases: Sequence[int]) -> None:
            length, began = items[0].facts["length"], time.perf_counter()
            if length in timed:
                return
            timed.add(length)
            try:
                put(f"speed:{length}", began, paced(arms, bases))
            except VortexError as error:  # the answers stand
                clock.say(f"speed:{length} failed: {error}")

        for part, arms in names.items():
            began, suite = time.perf_counter(), part.suite
            arms = {name: loaded[name] for name in arms if name in loaded}
            if suite == "beside" and not any(name in arms for name in BESIDE):
                continue
            for some in in_turn(suite, arms):
                some = fitting(part, some, len(chosen.tasks) * chosen.items, clock)
                if some is None:
                    break
                try:
                    wanted = chosen.timed is not None and (not chosen.timed or part.length in chosen.timed)
                    held = against_the_clock if wanted and suite == "ruler" else None
                    result = measured(chosen, bed, context, part, some, clock, ledger, held)
                except VortexError as error:
                    clock.say(f"{part} failed: {error}")
                    break
                put(str(part), began, result)
    for process in beside:
        try:
            process.wait(max(1.0, clock.left))
        except subprocess.TimeoutExpired:
            process.kill()
            clock.say("the screen is cut off")


def warm(model: str, device: str, width: int) -> None:
    bed = beds.Bed(model, {}, device=device)
    bench = _core.Workbench(bed.loaded.model, page_size=16, pages=2 * width + 4, max_batch=width, max_context=64)
    base = bench.prefill([1, 2])
    bench.decode([bench.fork(base) for _ in range(width)], [3] * width)


def draw(chosen, parts: list[Part], clock: Clock) -> None:
    bed = TraceBed(chosen.model, {}, natural=natural_text)
    most = {}  # questions of a task, by length
    for part in parts:
        if part.suite == "ruler":
            most[part.length] = max(most.get(part.length, 0), (part.block + 1) * chosen.items)
    for length, count in most.items():
        items = make("ruler", bed.context, length=length, items=count, seed=chosen.seed, tasks=chosen.tasks).items()
        clock.say(f"{len(items)} questions of {length} tokens")


def start_screen(chosen, length: int) -> subprocess.Popen:
    """`vortex eval --suite screen` of the same questions, on the CPU."""
    arms = [name for name in (chosen.arms or arms_of("screen", True)) if "+" not in name]
    command = [
        "nice", "-n", "10", sys.executable, "-m", "vortex_attention", "eval", *arms, "--suite", "screen", "--model", chosen.model, "--length", str(length),
        "--items", "1", "--tasks", ",".join(SCREENED), "--positions", "6", "--seed", str(chosen.seed), "--no-controls",
        "--threads", str(chosen.screen_threads), "--ledger", str(chosen.out / "screen.sqlite"), "--json",
    ]  # fmt: skip
    with open(chosen.out / "screen.json", "w") as out, open(chosen.out / "screen.log", "w") as log:
        return subprocess.Popen(command, stdout=out, stderr=log)


if __name__ == "__main__":
    main()
