"""Tables of docs/accuracy.md from what gpu_accuracy.py wrote.

usage: accuracy_tables.py RESULTS.jsonl... [--screen SCREEN.json] [--pictures FOLDER] [--confirm ARM>ARM...,...] [--shape LAYERS,HEADS,KV_HEADS,DIM]

RULER: points of full attention; of each arm the paired difference ± its standard error and the mean KL, by length and over all lengths, and the
bytes that scoring, choosing and attending read at the longest, as a share of full attention's (the price of the flow on the model's shape). Every
task at every length weighs the same, however many questions it was asked; a question of one task and number is one cluster whatever its length
(its words are drawn alike), and so are the questions about one document. Verdicts on the pooled average against a margin of 1 point, 95 %:
--confirm names chains of arms, each judged only when all before it in its chain have held, the error shared out over the chains. Drift: by arm, KL on its own KV / on full attention's and the share of
likeliest tokens that are full attention's, over all positions and up to each.
Speed: milliseconds a step, and the ratio of the steps beside. With --screen: rank correlations of the screen's figures and RULER's over arms, as
screen_beside_answers.py. With --pictures: what accuracy_pictures.py draws.
An arm's answer is paired with full attention's of the same run. What is there twice: the last one counts.
"""

import argparse
import json
import pathlib

import numpy as np
from accuracy_pictures import drift_svg, frontier_svg
from screen_beside_answers import FIGURES, correlation, within
from vortex_attention import _core, flows
from vortex_attention.errors import VortexError
from vortex_attention.measure.decide import NON_INFERIOR, in_sequence, non_inferiority_over
from vortex_attention.measure.strata import Stratified, stratified

MARGIN = 0.01
CONTROLS = ("oracle", "random_pages", "recent_only")
# Named, with their order, before a question was asked of 512 pages or more.
CONFIRMED = "centroid@1024>centroid@512,slow_means@512>slow_means@256"
ERROR = 0.05  # one-sided, of any false claim
SHAPE = "28,12,2,128"  # of Qwen2.5-1.5B


def read(paths: list[str]) -> dict[str, dict]:
    """Results by part; of RULER every one, by part, seed and place."""
    parts = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                settings = row["result"].get("settings", {}) if isinstance(row["result"], dict) else {}
                of_ruler = row["part"].startswith(("ruler:", "beside:"))
                key = f"{row['part']}:{settings['seed']}:{len(parts)}" if of_ruler else row["part"]
                parts[key] = row["result"]
    return parts


def share_of_bytes(name: str, length: int, shape: tuple[int, int, int, int]) -> float | None:
    """Of full attention's bytes a step, those that the flow scores, chooses and attends with, as priced; None: no flow of that name."""
    layers, heads, kv_heads, dim = shape
    text, *settings = name.split("+")
    try:
        flow = flows.load_at(text, **dict(setting.split("=") for setting in settings))
    except VortexError:
        return None
    compiled = _core.compile_flow(flow.program, head_dim=dim, group=heads // kv_heads, value_dim=dim)
    of = _core.price(compiled, layers=layers, heads=heads, kv_heads=kv_heads, head_dim=dim, context=length)
    return (of.score_bytes + of.select_bytes + of.attend_bytes) / of.full_attention_bytes


def _length(text: str) -> int:
    return int(text.partition("/")[0])


def _kl(values: list[float]) -> str:
    mean = float(np.mean(values))
    return f"{mean:.3f}".lstrip("0") if mean < 1 else f"{mean:.1f}"


class Ruler:
    """Outcomes by length, arm and question (task, number, seed), each with `lost`, its score minus full attention's of the same run. parts:
    "ruler:LENGTH[/BLOCK]:SEED..." → result."""

    def __init__(self, parts: dict[str, dict], suite: str = "ruler"):
        mine = [(part.split(":"), result) for part, result in parts.items() if part.startswith(suite + ":")]
        self.lengths = sorted({_length(part[1]) for part, _ in mine})
        self.outcomes: dict[int, dict[str, dict[tuple, dict]]] = {length: {} for length in self.lengths}
        self.documents: dict[tuple, str] = {}  # by task and number, whatever length and seed
        tokens: dict[str, dict[int, list[float]]] = {}
        for (_, length, seed, *_), result in mine:
            names = [(item["group"], item["name"].rsplit("-", 1)[1], seed) for item in result["items"]]
            self.documents |= {
                name[:2]: item["cluster"] for name, item in zip(names, result["items"]) if "cluster" in item
            }
            full = next(arm for arm in result["arms"] if arm["name"] == "full")["outcomes"]
            for arm in result["arms"]:
                found = [own | {"lost": own["score"] - of["score"]} for own, of in zip(arm["outcomes"], full)]
                self.outcomes[_length(length)].setdefault(arm["name"], {}).update(zip(names, found))
                tokens.setdefault(arm["name"], {}).setdefault(_length(length), []).append(arm["attended_tokens"])
        self.tokens = {
            name: float(np.mean([np.mean(found) for found in counts.values()])) for name, counts in tokens.items()
        }

    def arms(self) -> list[str]:
        return list(dict.fromkeys(name for length in self.lengths for name in self.outcomes[length] if name != "full"))

    def losses(self, name: str, lengths) -> tuple[list[float], list[tuple], list[float]]:
        """Paired differences, larger is better, their questions with the length before them, and KLs."""
        values, questions, kls = [], [], []
        for length in lengths:
            for question, outcome in self.outcomes[length].get(name, {}).items():
                values.append(outcome["lost"])
                questions.append((length, *question))
                kls.append(outcome["kl"])
        return values, questions, kls

    def mean(self, name: str, lengths) -> Stratified:
        values, questions, _ = self.losses(name, lengths)
        tasks = [task for _, task, _, _ in questions]
        clusters = [self.documents.get((task, number), (task, number, seed)) for _, task, number, seed in questions]
        return stratified(values, [(length, task) for length, task, _, _ in questions], clusters, tasks)

    def verdict(self, name: str):
        """On the average over all lengths."""
        return non_inferiority_over(self.mean(name, self.lengths), MARGIN, worst=1.0)

    def cell(self, name: str, lengths) -> str:
        if not any(self.outcomes[length].get(name) for length in lengths):
            return "–"
        found, kls = self.mean(name, lengths), self.losses(name, lengths)[2]
        return f"{100 * found.center:+.1f} ± {100 * found.error:.1f} ({_kl(kls)})".replace("-", "−")

    def whole(self) -> list[str]:
        """Arms that were measured at all lengths."""
        return [name for name in self.arms() if all(name in self.outcomes[length] for length in self.lengths)]

    def pooled(self, name: str, lengths: list[int]) -> str:
        interval, kls = self.mean(name, lengths).interval(), self.losses(name, lengths)[2]
        center, low, high = (100 * value for value in (interval.center, interval.low, interval.high))
        return f"{center:+.1f} [{low:+.1f}, {high:+.1f}] ({_kl(kls)})".replace("-", "−")

    def table(self, shape: tuple[int, int, int, int], chains: list[list[str]] = []) -> None:
        longest = self.lengths[-1]
        lengths = " | ".join(f"{length:,}" for length in self.lengths)
        print(f"| flow | tokens a row | bytes at {longest:,} | {lengths} | all | questions |")
        print("|---" * (len(self.lengths) + 5) + "|")
        full = [
            100 * np.mean([one["score"] for one in self.outcomes[length]["full"].values()]) for length in self.lengths
        ]
        counts = [len(self.outcomes[length]["full"]) for length in self.lengths]
        print(
            "| full attention | all | 100 % | "
            + " | ".join(f"{value:.1f}" for value in full)
            + f" | {np.mean(full):.1f} | {sum(counts)} |"
        )
        whole = self.whole()

        def rows(names: list[str], lengths: list[int]) -> None:
            for name in sorted(names, key=lambda name: -self.mean(name, lengths).center):
                shown = f"*`{name}`*" if name.split("@")[0] in CONTROLS else f"`{name}`"
                cells = " | ".join(self.cell(name, [length]) for length in lengths)
                share = None if name.split("@")[0] == "oracle" else share_of_bytes(name, longest, shape)
                size = "–" if share is None else f"{100 * share:.1f} %"
                count = len(self.losses(name, lengths)[0])
                print(
                    f"| {shown} | {self.tokens[name]:,.0f} | {size} | {cells} | {self.pooled(name, lengths)} | {count} |"
                )

        rows(whole, self.lengths)
        partly = [name for name in self.arms() if name not in whole]
        there = [length for length in self.lengths if any(name in self.outcomes[length] for name in partly)]
        if partly:
            print("\nNot at all lengths:\n")
            print(
                f"| flow | tokens a row | bytes at {longest:,} | "
                + " | ".join(f"{length:,}" for length in there)
                + " | all | questions |"
            )
            print("|---" * (len(there) + 5) + "|")
            rows(partly, there)
        print(f"\n{counts} questions by length; verdicts on the pooled average, margin {100 * MARGIN:g} point:\n")
        judged = {name: self.verdict(name) for name in whole if name.split("@")[0] not in CONTROLS}
        level, holds = ERROR / max(1, len(chains)), {}
        for chain in chains:
            order = [name for name in chain if name in judged]
            rejected = in_sequence([self.mean(name, self.lengths).p_at_most(-MARGIN) for name in order], level)
            holds |= dict(zip(order, rejected))
        for name, verdict in sorted(judged.items(), key=lambda row: -row[1].interval.center):
            low, high = 100 * verdict.interval.low, 100 * verdict.interval.high
            said = verdict.kind
            if name not in holds:
                said += ", not among those to be confirmed"
            elif said == NON_INFERIOR:
                said += ", confirmed" if holds[name] else " alone, not after those before it"
            print(f"- {name}: {100 * verdict.interval.center:+.2f} [{low:+.2f}, {high:+.2f}] {said}")

    def by_task(self) -> None:
        tasks = list(dict.fromkeys(question[0] for question in self.outcomes[self.lengths[0]]["full"]))
        print("\n| flow | " + " | ".join(tasks) + " |\n" + "|---" * (len(tasks) + 1) + "|")
        for name in ("full", *self.arms()):
            cells = []
            for task in tasks:
                found = [
                    one["score"]
                    for length in self.lengths
                    for question, one in self.outcomes[length].get(name, {}).items()
                    if question[0] == task
                ]
                cells.append(f"{100 * np.mean(found):.0f}" if found else "–")
            print(f"| `{name}` | " + " | ".join(cells) + " |")


def drift(result: dict) -> None:
    print(f"\n{len(result['items'])} texts, settings {result['settings']}\n")
    positions = [f"{position:,.0f}" for position in result["arms"][0]["curves"]["positions"]]
    some = range(1, len(positions), 2)
    print(
        "| arm | KL, own KV | KL, full's KV | same token | "
        + " | ".join(f"to {positions[i]}" for i in some)
        + " |\n"
        + "|---" * (4 + len(some))
        + "|"
    )
    for arm in result["arms"]:
        if arm["name"] == "full":
            continue
        kls = {key: np.array([one[key] for one in arm["outcomes"]]) for key in ("kl", "kl_dense", "agreement")}
        error = (
            {key: values.std(ddof=1) / np.sqrt(len(values)) for key, values in kls.items()}
            if len(arm["outcomes"]) > 1
            else dict.fromkeys(kls, 0)
        )
        own, dense, same = (arm["curves"][f"{key}_curve"] for key in ("kl", "kl_dense", "agreement"))
        cells = " | ".join(
            f"{np.mean(own[i - 1 : i + 1]):.3f} / {np.mean(dense[i - 1 : i + 1]):.3f}, {100 * np.mean(same[i - 1 : i + 1]):.0f} %"
            for i in some
        )
        print(
            f"| `{arm['name']}` | {kls['kl'].mean():.4f} ± {error['kl']:.4f} | {kls['kl_dense'].mean():.4f} ± {error['kl_dense']:.4f} | {100 * kls['agreement'].mean():.1f} % | {cells} |"
        )


def speed(rows: list[dict]) -> None:
    full = rows[0]
    spread = f"; its own steps spread by {100 * full['spread']:.1f} %" if "spread" in full else ""
    print(
        f"\n{full['batch']} sequences of {full['context']:,} tokens; full attention {full['milliseconds']:.2f} ms{spread}\n"
    )
    print("| arm | ms a step | tokens/s | × full |\n|---|---|---|---|")
    for row in rows:
        print(
            f"| `{row['name']}` | {row['milliseconds']:.2f} | {row['tokens_per_second']:,.0f} | {times_as_fast(row, full):.2f} |"
        )


def times_as_fast(row: dict, full: dict) -> float:
    return row["ratio"] if "ratio" in row else full["milliseconds"] / row["milliseconds"]


def draw(parts: dict[str, dict], ruler: Ruler, folder: pathlib.Path, shape: tuple[int, int, int, int]) -> None:
    """bytes.svg: the pooled loss of each arm by the bytes that it reads at the longest length; frontier.svg: by its speed at the longest contexts
    that were timed; drift.svg."""
    lengths, losses, of_bytes = ", ".join(f"{length:,}" for length in ruler.lengths), {}, []
    for name in ruler.whole():
        if name.split("@")[0] == "oracle":  # it reads all keys to choose
            continue
        interval = ruler.verdict(name).interval
        losses[name] = tuple(100 * value for value in (interval.center, interval.low, interval.high))
        share = share_of_bytes(name, ruler.lengths[-1], shape)
        if share is not None:
            of_bytes.append((name, 100 * share, losses[name], name.split("@")[0] in CONTROLS))
    title = f"RULER's average over {lengths} tokens beside full attention's"
    if of_bytes:
        said = "bars: 95 %; the dashed line joins what no flow beats in both"
        across = f"bytes of scores and attention at {ruler.lengths[-1]:,} tokens, % of full attention's"
        svg = frontier_svg(title, said, of_bytes, margin=100 * MARGIN, across=across, less=True)
        (folder / "bytes.svg").write_text(svg, encoding="utf-8")
    timed = sorted((int(part.split(":")[1]), rows) for part, rows in parts.items() if part.startswith("speed:"))
    if timed and losses:
        full, *rows = timed[-1][1]
        points = [
            (row["name"], times_as_fast(row, full), losses[row["name"]], row["name"].split("@")[0] in CONTROLS)
            for row in rows
            if row["name"] in losses
        ]
        said = f"{full['batch']} sequences of {full['context']:,} tokens; bars: 95 %"
        svg = frontier_svg(
            f"{title}, and speed", said, points, margin=100 * MARGIN, across="× full attention's steps a second"
        )
        (folder / "frontier.svg").write_text(svg, encoding="utf-8")
    for part, result in parts.items():
        if part.startswith("drift:"):
            (folder / "drift.svg").write_text(drift_svg(result), encoding="utf-8")


def screen(path: str, ruler: Ruler) -> None:
    with open(path, encoding="utf-8") as file:
        found = {
            arm["name"]: {name: value["center"] for name, value in arm["metrics"].items()}
            for arm in json.load(file)["arms"]
        }
    print("\n| screen | beside | all arms | within a budget |\n|---|---|---|---|")
    for title, lengths in (("RULER, the screen's length", ruler.lengths[:1]), ("RULER, all lengths", ruler.lengths)):
        names = [
            name
            for name in found
            if name.split("@")[0] not in ("full", "oracle")
            and all(name in ruler.outcomes[length] for length in lengths)
        ]
        budgets = [name.partition("@")[2] for name in names]
        for what in ("score lost", "KL"):
            y = np.array(
                [
                    ruler.mean(name, lengths).center
                    if what == "score lost"
                    else -np.mean(ruler.losses(name, lengths)[2])
                    for name in names
                ]
            )
            y = y.round(9)  # what is equal ties
            for figure, better in FIGURES.items():
                x = np.array([better * found[name][figure] for name in names])
                both = [correlation(x, y, 2000), correlation(within(x, budgets), within(y, budgets), 2000)]
                print(
                    f"| {figure} | {title}: {what} | "
                    + " | ".join(
                        f"{value:.2f} [{low:.2f}, {high:.2f}], {count} arms" for value, low, high, count in both
                    )
                    + " |"
                )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--screen")
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--confirm", default=CONFIRMED)
    parser.add_argument("--shape", default=SHAPE)
    chosen = parser.parse_args(arguments)
    shape = tuple(map(int, chosen.shape.split(",")))
    chains = [chain.split(">") for chain in chosen.confirm.split(",") if chain]
    parts = read(chosen.results)
    ruler = Ruler(parts)
    if ruler.lengths:
        ruler.table(shape, chains)
        ruler.by_task()
    beside = Ruler(parts, "beside")
    if beside.lengths:
        print("\nFlows beside their plain ones:\n")
        beside.table(shape)
    for part, result in parts.items():
        if part.startswith("speed:"):
            speed(result)
        if part.startswith("drift:"):
            drift(result)
    if chosen.screen and ruler.lengths:
        screen(chosen.screen, ruler)
    if chosen.pictures:
        chosen.pictures.mkdir(parents=True, exist_ok=True)
        draw(parts, ruler, chosen.pictures, shape)


if __name__ == "__main__":
    main()
