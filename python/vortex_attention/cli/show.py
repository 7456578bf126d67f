"""Progress and tables for the terminal: a bar with time left on a terminal, plain lines in a log."""

from __future__ import annotations

import json
import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..printable import blanked


SOON = 5.0  # seconds after which a line of a log says how long it takes yet
MANY, SELDOM = 200, 10.0  # of so many things and more a log tells every so many seconds


class Reporter:
    """Callable as an experiment's progress: (what, done, of). Use as a context manager so that the bar is put away."""

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True)
        self.quiet = quiet
        self.began = time.monotonic()
        self.tasks: dict[str, int] = {}
        self.first: dict[
            str, tuple[float, int, int]
        ] = {}  # when something was first told of, how much was done, of how many
        self.last: dict[str, tuple[float, int]] = {}  # when it was told of last, and how much was done
        self.bar = None
        if self.console.is_terminal and not quiet:
            self.bar = Progress(
                TextColumn("{task.description:>18}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.console,
            )

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
            now = time.monotonic()
            before, said = self.last.get(what, (-math.inf, -1))
            if what not in self.first or of != self.first[what][2] or done < said:  # another of that name
                self.first[what], before, said = (now, done, of), -math.inf, -1
            first, there, _ = self.first[what]
            if of > 1 and (done == said or (of >= MANY and done < of and now - before < SELDOM)):
                return
            self.last[what] = now, done
            left = (
                f", {_duration((now - first) / (done - there) * (of - done))} left"
                if there < done < of and now - first > SOON
                else ""
            )
            print(f"[{now - self.began:6.1f} s] {what} {done}/{of}{left}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {seconds:.0f} s"


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
        table.add_row(
            arm["name"],
            _interval(arm["exact"], 2),
            _interval(arm["log_probability"], 3),
            _interval(arm["kl"], 3),
            f"{arm['attended_tokens']:.0f}",
            style="dim" if arm["name"] in result["controls"] else None,
        )
    return table


def speed_table(result: dict, case: dict) -> Table:
    """Step time, tokens a second, ratio to full attention and share of the speed of light of each arm."""
    table = Table(title=f"decode: {case['batch']} sequences × {case['context']} tokens")
    beside = [f"× {case['incumbent']}"] if case.get("incumbent") else []
    for index, head in enumerate(
        (
            "flow",
            "ms a step",
            "tok/s",
            "× full",
            *beside,
            "light speed, ms",
            "share",
            "score",
            "select",
            "attend",
            "other",
        )
    ):
        table.add_column(head, justify="left" if index == 0 else "right")
    for arm in case["arms"]:
        parts = [
            f"{1000 * arm['parts'][part]:.1f}" if part in arm["parts"] else "–"
            for part in ("score", "select", "attend", "other")
        ]
        table.add_row(
            arm["name"],
            f"{arm['milliseconds']:.1f}",
            f"{arm['tokens_per_second']:.0f}",
            _interval(arm["ratio"], 2) if arm["ratio"] else "1",
            *([_interval(arm["ratio_to_incumbent"], 2) if arm["ratio_to_incumbent"] else "–"] if beside else []),
            f"{arm['floor_milliseconds']:.1f}",
            f"{100 * arm['share_of_light']:.0f} %",
            *parts,
            style="dim" if arm["name"] in result["controls"] else None,
        )
    return table


def kernel_table(case: dict, arm: dict) -> Table:
    """The kernels of one arm's step, alone, and the step as a graph."""
    table = Table(title=f"kernels of a step of {arm['name']}, {case['batch']} × {case['context']} tokens")
    for index, head in enumerate(("kernel", "launches", "us each", "us a step", "MB a step", "of light speed")):
        table.add_column(head, justify="left" if index == 0 else "right")
    for row in arm["kernels"]:
        micros, share = 1000 * row["milliseconds"], row["share_of_light"]
        table.add_row(
            row["name"],
            str(row["launches"]),
            f"{micros / row['launches']:.1f}",
            f"{micros:.0f}",
            f"{row['bytes'] / 1e6:.0f}" if row["bytes"] else "",
            f"{100 * share:.0f} %" if share else "",
        )
    table.add_row(
        "all kernels, one by one", str(arm["launches"]), "", f"{1000 * arm['kernels_milliseconds']:.0f}", "", ""
    )
    table.add_row("the step as a graph", "1", "", f"{1000 * arm['step_milliseconds']:.0f}", "", "")
    table.add_row("between kernels, less what overlaps", "", "", f"{1000 * arm['between_milliseconds']:.0f}", "", "")
    return table


def earlier_table(earlier: dict) -> Table:
    """Ratios to full attention of the flows that an earlier run timed too."""
    table = Table(
        title=f"beside run {earlier['run'][:8]}: commit {earlier['facts']['commit']}, {earlier['facts']['device']}"
    )
    for index, head in enumerate(("flow", "load", "× full here", "× full there", "here over there")):
        table.add_column(head, justify="left" if index < 2 else "right")
    for row in earlier["flows"]:
        table.add_row(
            row["name"], row["load"], f"{row['here']:.3f}", f"{row['there']:.3f}", _interval(row["change"], 3)
        )
    return table


def print_mixes(result: dict, as_json: bool = False) -> None:
    """Offline throughput of each mix, or the whole result as JSON."""
    if as_json:
        print(json.dumps(_without_infinities(result), allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    for case in result["mixes"]:
        first, beside = case["arms"][0], [f"× {case['incumbent']}"] if case["incumbent"] else []
        table = Table(
            title=f"{case['mix']}: {case['conversations']} requests, {first['prompt_tokens']} prompt tokens, {first['tokens']} made"
        )
        for index, head in enumerate(
            ("flow", "seconds", "tokens made/s", "× full", *beside, "prompt tokens from the cache", "preemptions")
        ):
            table.add_column(head, justify="left" if index == 0 else "right")
        for arm in case["arms"]:
            ratios = [_interval(arm["ratio"], 2) if arm["ratio"] else "1"]
            ratios += [_interval(arm["ratio_to_incumbent"], 2) if arm["ratio_to_incumbent"] else "–"] if beside else []
            table.add_row(
                arm["name"],
                f"{arm['seconds']:.2f}",
                f"{arm['tokens_per_second']:.1f}",
                *ratios,
                str(arm["prefix_hit_tokens"]),
                str(arm["preemptions"]),
            )
        console.print(table)
        console.print(
            f"{case['mix']}: {case['what']}, lengths × {result['settings']['scale']:g}", style="dim", highlight=False
        )


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
        for arm in case.get("kernels", []):
            console.print(kernel_table(case, arm))
    if result["speed"]:
        reader = (
            f"streams with {result['threads']} threads"
            if "other" in result["speed"][0]["arms"][0]["parts"]
            else "streams on the device"
        )
        console.print(
            f"light speed: the bytes the engine counted, at the rate a buffer of that size {reader} "
            f"({result['read_gigabytes_per_second']:.1f} GB/s for 1 GiB)",
            style="dim",
            highlight=False,
        )
    if result.get("earlier"):
        console.print(earlier_table(result["earlier"]))
    if result["accuracy"] and result["speed"]:
        console.print(result["headline"], style="bold", highlight=False)


def suite_table(result: dict) -> Table:
    """Every metric of each arm, the paired difference of the first one to full attention, and the verdict."""
    metrics, first = result["metrics"], result["metrics"][0]
    tried = any(arm.get("pass_fail") for arm in result["arms"])
    table = Table(title=f"{result['suite']}: {len(result['items'])} items, paired with full attention")
    heads = [
        "flow",
        *(metric["title"] for metric in metrics),
        *(["lost / won beside full (p)"] if tried else []),
        f"{first['title']}: better than full",
        "verdict",
        "tokens a row",
    ]
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index in (0, len(heads) - 2) else "right")
    for arm in result["arms"]:
        cells = [
            _interval(_scaled(arm["metrics"][metric["name"]], metric["scale"]), metric["digits"])
            if arm["metrics"]
            else ""
            for metric in metrics
        ]
        difference = _interval(_scaled(arm["difference"], first["scale"]), first["digits"]) if arm["difference"] else ""
        stopped = f"stopped after {result['stopped'][arm['name']]}" if arm["name"] in result["stopped"] else ""
        if tried:
            of = arm["pass_fail"]
            cells.append(f"{of['lost']} / {of['won']} ({of['p']:.2g})" if of else "")
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
        console.print(
            f"non-inferior: loses less than {margin} of {first['title']}, with 95 % confidence",
            style="dim",
            highlight=False,
        )
    else:
        console.print(f"not ranked: {result['why_not_ranked']}", style="bold", highlight=False)
    if result["differing"]:
        console.print(f"full attention gave other bits than the ledger holds for {result['differing']} items: all were measured again",
                      style="bold", highlight=False)  # fmt: skip
    if result["copied"]:
        console.print(
            f"{result['copied']} outcomes came from the ledger; --fresh measures them again",
            style="dim",
            highlight=False,
        )


def print_all_suites(result: dict, as_json: bool = False) -> None:
    """Each suite's tables, then what was left out, what is beyond the model, and the time; or the whole as JSON."""
    if as_json:
        print(json.dumps(_without_infinities(result), allow_nan=False))
        return
    for suite in result["suites"]:
        print_suite(suite)
    console = Console(width=None if sys.stdout.isatty() else 160)
    for one in result["left_out"]:
        console.print(f"{one['suite']} is left out: {_safe(one['why'])}", style="bold", highlight=False)
    if result["beyond"]:
        tasks = ", ".join(f"{one['task']} ({100 * one['score']:.0f})" for one in result["beyond"])
        console.print(f"beyond this model, whatever is attended (full attention's score): {tasks}", highlight=False)
    console.print(f"{len(result['suites'])} suites in {result['minutes']:.1f} min", style="dim", highlight=False)


def print_study(
    name: str, points: list, confirmed: list, proposals: dict, verdicts: dict, *, as_json: bool, claims: list = ()
) -> None:
    """The frontier of a study with what each gate let through, the confirmations, and what may be claimed of them."""
    by_gate: dict[str, dict[str, int]] = {}
    for gates in verdicts.values():
        for gate, verdict in gates.items():
            by_gate.setdefault(gate, {}).setdefault(verdict.status, 0)
            by_gate[gate][verdict.status] += 1
    if as_json:
        print(
            json.dumps(
                _without_infinities(
                    {
                        "study": name,
                        "proposals": len(proposals),
                        "gates": by_gate,
                        "frontier": [point.to_json() for point in points],
                        "confirmed": [vars(one) for one in confirmed],
                        "claims": [vars(claim) for claim in claims],
                    }
                )
            )
        )
        return
    console = Console()
    console.print(
        f"study {name}: {len(proposals)} proposals; "
        + "; ".join(
            f"{gate} " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
            for gate, counts in by_gate.items()
        )
    )
    table = Table(title="the frontier: nat a token of the answer beside full attention, times its speed")
    for head in ("proposal", "gain, nat", "× full", "P(on frontier)", "P(accurate)", "state", "what"):
        table.add_column(head)
    for point in points:
        if point.state != "out":
            proposal = proposals[int(point.key)]
            table.add_row(
                point.key,
                f"{point.gain:+.3f} [{point.gain_interval[0]:+.3f}, {point.gain_interval[1]:+.3f}]",
                f"{point.ratio:.2f} [{point.ratio_interval[0]:.2f}, {point.ratio_interval[1]:.2f}]",
                f"{point.p_non_dominated:.2f}",
                f"{point.p_accurate:.2f}",
                point.state,
                _safe(proposal.hypothesis[:90]),
            )
    console.print(table)
    if confirmed:
        table = Table(title="confirmed on items and blocks that no gate had shown")
        for head in ("proposal", "gain, nat", "at least (95 %)", "× full", "p", "accurate"):
            table.add_column(head)
        for one in confirmed:
            table.add_row(
                str(one.proposal),
                f"{one.gain:+.3f}",
                f"{one.gain_low:+.3f}",
                f"{one.ratio:.2f}",
                f"{one.p_accurate:.1e}",
                "yes" if one.accurate else "no",
            )
        console.print(table)
    surest = {claim.kind: claim for claim in reversed(claims)}  # they come the surest first
    for claim in [claim for claim in claims if claim.wins] or surest.values():
        console.print(str(claim), highlight=False, markup=False)


def _safe(text: str) -> str:
    """Untrusted text without markup or control characters."""
    return blanked(text).replace("[", "\\[")
