"""Progress and tables for the terminal: a bar with time left on a terminal, plain lines in a log."""

from __future__ import annotations

import json
import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Reporter:
    """Callable as an experiment's progress: (what, done, of). Use as a context manager so that the bar is put away."""

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True)
        self.quiet = quiet
        self.began = time.monotonic()
        self.tasks: dict[str, int] = {}
        self.bar = None
        if self.console.is_terminal and not quiet:
            self.bar = Progress(TextColumn("{task.description:>18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                                console=self.console)

    def __enter__(self) -> "Reporter":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, what: str, done: int, of: int) -> None:
        if self.quiet:
            return
        if self.bar:
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=of)
            self.bar.update(self.tasks[what], completed=done, total=of)
        else:
            print(f"[{time.monotonic() - self.began:6.1f} s] {what} {done}/{of}", file=sys.stderr, flush=True)


def _interval(value: dict, digits: int) -> str:
    if value["low"] == value["high"]:
        return f"{value['center']:.{digits}f}"
    return f"{value['center']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def accuracy_table(result: dict) -> Table:
    """Exact match, answer log-probability, KL and pages of each arm, with 95 % intervals."""
    accuracy = result["accuracy"]
    table = Table(title=f"accuracy: {len(accuracy['items'])} needles, {accuracy['length']} tokens")
    for index, head in enumerate(("flow", "exact match", "answer log-prob", "KL to full", "tokens a row")):
        table.add_column(head, justify="left" if index == 0 else "right")
    for arm in accuracy["arms"]:
        table.add_row(arm["name"], _interval(arm["exact"], 2), _interval(arm["log_probability"], 3), _interval(arm["kl"], 3),
                      f"{arm['attended_tokens']:.0f}", style="dim" if arm["name"] in result["controls"] else None)
    return table


def speed_table(result: dict, case: dict) -> Table:
    """Step time, tokens a second, ratio to full attention and share of the speed of light of each arm."""
    table = Table(title=f"decode: {case['batch']} sequences × {case['context']} tokens")
    for index, head in enumerate(("flow", "ms a step", "tok/s", "× full", "light speed, ms", "share", "score", "select", "attend", "other")):
        table.add_column(head, justify="left" if index == 0 else "right")
    for arm in case["arms"]:
        parts = [f"{1000 * arm['parts'][part]:.1f}" if part in arm["parts"] else "–" for part in ("score", "select", "attend", "other")]
        table.add_row(arm["name"], f"{arm['milliseconds']:.1f}", f"{arm['tokens_per_second']:.0f}",
                      _interval(arm["ratio"], 2) if arm["ratio"] else "1", f"{arm['floor_milliseconds']:.1f}",
                      f"{100 * arm['share_of_light']:.0f} %", *parts, style="dim" if arm["name"] in result["controls"] else None)
    return table


def _without_infinities(value):
    """JSON has no infinity: the ends of an interval of one item are null."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_result(result: dict, as_json: bool = False) -> None:
    """Tables on standard output, then, of a run that measured both, the headline; or the whole result as JSON."""
    if as_json:
        print(json.dumps(_without_infinities(result), allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    if result.get("kv_dtype", "bf16") != "bf16":
        console.print(f"K and V in {result['kv_dtype']}, full attention's too", style="dim", highlight=False)
    if result["accuracy"]:
        console.print(accuracy_table(result))
    for case in result["speed"]:
        console.print(speed_table(result, case))
    if result["speed"]:
        reader = f"streams with {result['threads']} threads" if "other" in result["speed"][0]["arms"][0]["parts"] else "streams on the device"
        console.print(f"light speed: the bytes the engine counted, at the rate a buffer of that size {reader} "
                      f"({result['read_gigabytes_per_second']:.1f} GB/s for 1 GiB)", style="dim", highlight=False)
    if result["accuracy"] and result["speed"]:
        console.print(result["headline"], style="bold", highlight=False)


def suite_table(result: dict) -> Table:
    """Every metric of each arm, the paired difference of the first one to full attention, and the verdict."""
    metrics, first = result["metrics"], result["metrics"][0]
    table = Table(title=f"{result['suite']}: {len(result['items'])} items, paired with full attention")
    heads = ["flow", *(metric["title"] for metric in metrics), f"{first['title']}: better than full", "verdict", "tokens a row"]
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index in (0, len(heads) - 2) else "right")
    for arm in result["arms"]:
        cells = [_interval(_scaled(arm["metrics"][metric["name"]], metric["scale"]), metric["digits"]) if arm["metrics"] else "" for metric in metrics]
        difference = _interval(_scaled(arm["difference"], first["scale"]), first["digits"]) if arm["difference"] else ""
        stopped = f"stopped after {result['stopped'][arm['name']]}" if arm["name"] in result["stopped"] else ""
        table.add_row(arm["name"], *cells, difference, stopped or arm["verdict"] or "", f"{arm['attended_tokens']:.0f}",
                      style="dim" if arm["role"] == "control" else None)  # fmt: skip
    return table


def group_table(result: dict) -> Table:
    """The first metric's mean of each arm by group: a task, a length."""
    first = result["metrics"][0]
    names = list(dict.fromkeys(group for arm in result["arms"] for group in arm["groups"]))
    table = Table(title=f"{first['title']} by group")
    table.add_column("group")
    for arm in result["arms"]:
        table.add_column(arm["name"], justify="right", style="dim" if arm["role"] == "control" else None)
    for name in names:
        cells = (arm["groups"].get(name) for arm in result["arms"])
        table.add_row(name, *("" if cell is None else f"{cell * first['scale']:.{first['digits']}f}" for cell in cells))
    return table


def _scaled(interval: dict, scale: float) -> dict:
    return {key: value if key == "count" or value is None else value * scale for key, value in interval.items()}


def print_suite(result: dict, as_json: bool = False) -> None:
    """The tables of a suite, or the whole result as JSON."""
    if as_json:
        print(json.dumps(_without_infinities(result), allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(suite_table(result))
    if any(arm["groups"] for arm in result["arms"]):
        console.print(group_table(result))
    first = result["metrics"][0]
    if result["ranked"]:
        margin = f"{result['margin'] * first['scale']:g}"
        console.print(f"non-inferior: loses less than {margin} of {first['title']}, with 95 % confidence", style="dim", highlight=False)
    else:
        console.print(f"not ranked: {result['why_not_ranked']}", style="bold", highlight=False)
    if result["differing"]:
        console.print(f"full attention gave other bits than the ledger holds for {result['differing']} items: all were measured again",
                      style="bold", highlight=False)  # fmt: skip
    if result["copied"]:
        console.print(f"{result['copied']} outcomes came from the ledger; --fresh measures them again", style="dim", highlight=False)


def print_study(name: str, points: list, confirmed: list, proposals: dict, verdicts: dict, *, as_json: bool) -> None:
    """The frontier of a study with what each gate let through, and the confirmations."""
    by_gate: dict[str, dict[str, int]] = {}
    for gates in verdicts.values():
        for gate, verdict in gates.items():
            by_gate.setdefault(gate, {}).setdefault(verdict.status, 0)
            by_gate[gate][verdict.status] += 1
    if as_json:
        print(json.dumps(_without_infinities({
            "study": name, "proposals": len(proposals), "gates": by_gate, "frontier": [point.to_json() for point in points],
            "confirmed": [vars(one) for one in confirmed]})))
        return
    console = Console()
    console.print(f"study {name}: {len(proposals)} proposals; " + "; ".join(
        f"{gate} " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) for gate, counts in by_gate.items()))
    table = Table(title="the frontier: nat a token of the answer beside full attention, times its speed")
    for head in ("proposal", "gain, nat", "× full", "P(on frontier)", "P(accurate)", "state", "what"):
        table.add_column(head)
    for point in points:
        if point.state != "out":
            proposal = proposals[int(point.key)]
            table.add_row(point.key, f"{point.gain:+.3f} [{point.gain_interval[0]:+.3f}, {point.gain_interval[1]:+.3f}]",
                          f"{point.ratio:.2f} [{point.ratio_interval[0]:.2f}, {point.ratio_interval[1]:.2f}]",
                          f"{point.p_non_dominated:.2f}", f"{point.p_accurate:.2f}", point.state, _safe(proposal.hypothesis[:90]))
    console.print(table)
    if confirmed:
        table = Table(title="confirmed on items and blocks that no gate had shown")
        for head in ("proposal", "gain, nat", "at least (95 %)", "× full", "p", "accurate"):
            table.add_column(head)
        for one in confirmed:
            table.add_row(str(one.proposal), f"{one.gain:+.3f}", f"{one.gain_low:+.3f}", f"{one.ratio:.2f}", f"{one.p_accurate:.1e}", "yes" if one.accurate else "no")
        console.print(table)


def _safe(text: str) -> str:
    """Untrusted text without markup or control characters."""
    return "".join(c if c.isprintable() else " " for c in text).replace("[", "\\[")
