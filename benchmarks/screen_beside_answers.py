"""What the screen is worth: rank correlations of its figures with what answers lose, over flows and budgets.

usage: screen_beside_answers.py SCREEN.json ANSWERS.json... [--draws 2000]

The files are what `vortex eval FLOW@BUDGET... --json` prints, of the suite screen and of any others; arms are matched by name, full attention and
oracle left out. Spearman's correlation, signs turned so that 1 is perfect, with a bootstrap interval over arms; once over all arms, once
within each budget with the ranks of the budgets' arms put side by side, since a larger budget is better in anything.
"""

import argparse
import json
from collections import defaultdict

import numpy as np
from scipy import stats

FIGURES = {"recall": 1, "top": 1, "worst": 1, "error": -1}
LEFT_OUT = ("full", "oracle")


def means(path: str) -> tuple[str, dict[str, dict[str, float]]]:
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    return result["suite"], {
        arm["name"]: {name: value["center"] for name, value in arm["metrics"].items()} for arm in result["arms"]
    }


def within(ranks: np.ndarray, groups: list[str]) -> np.ndarray:
    """Ranks in each group of at least three, put between 0 and 1; nan elsewhere."""
    out = np.full(len(ranks), np.nan)
    names = np.array(groups)
    for group in set(groups):
        mine = np.flatnonzero(names == group)
        if len(mine) >= 3:
            out[mine] = (stats.rankdata(ranks[mine]) - 1) / (len(mine) - 1)
    return out


def correlation(x: np.ndarray, y: np.ndarray, draws: int) -> tuple[float, float, float, int]:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    generator, found = np.random.default_rng(0), []
    for _ in range(draws):
        drawn = generator.integers(0, len(x), len(x))
        value = stats.spearmanr(x[drawn], y[drawn]).statistic
        if np.isfinite(value):
            found.append(value)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(stats.spearmanr(x, y).statistic), float(low), float(high), len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("screen")
    parser.add_argument("answers", nargs="+")
    parser.add_argument("--draws", type=int, default=2000)
    chosen = parser.parse_args()
    _, screen = means(chosen.screen)
    print("| screen | answers | all arms | within a budget |\n|---|---|---|---|")
    for path in chosen.answers:
        suite, answers = means(path)
        full = answers["full"]
        names = [name for name in screen if name in answers and name.split("@")[0] not in LEFT_OUT]
        budgets = [name.partition("@")[2] for name in names]
        lost = {"KL": [answers[name]["kl"] for name in names]}
        if "log_probability" in full:
            lost["log-prob lost"] = [full["log_probability"] - answers[name]["log_probability"] for name in names]
        for figure, better in FIGURES.items():
            x = np.array([better * screen[name][figure] for name in names])
            for what, losses in lost.items():
                y = -np.array(losses)
                whole = correlation(x, y, chosen.draws)
                inside = correlation(within(x, budgets), within(y, budgets), chosen.draws)
                said = [
                    f"{value:.2f} [{low:.2f}, {high:.2f}], {count} arms" for value, low, high, count in (whole, inside)
                ]
                print(f"| {figure} | {suite}: {what} | {' | '.join(said)} |")
    table = defaultdict(dict)
    for name, figures in screen.items():
        table[name] |= figures
    print(
        "\n| arm | recall | heaviest | worst head | output error | "
        + " | ".join(means(path)[0] + " KL" for path in chosen.answers)
        + " |"
    )
    print("|---" * (5 + len(chosen.answers)) + "|")
    for name, figures in table.items():
        kls = [means(path)[1].get(name, {}).get("kl", float("nan")) for path in chosen.answers]
        print(
            f"| `{name}` | "
            + " | ".join(f"{figures[key]:.3f}" for key in FIGURES)
            + " | "
            + " | ".join(f"{kl:.4f}" for kl in kls)
            + " |"
        )


if __name__ == "__main__":
    main()
