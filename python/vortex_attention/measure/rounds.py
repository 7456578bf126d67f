"""How many rounds of A B B A a wished resolution of a speed ratio needs, from the spread of rounds that were timed; said before a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .power import blocks_for_resolution, resolution_of

LEAST, MOST = 3, 10_000


def log_ratio(quartet: Sequence[float]) -> float:
    """Of the seconds of A, B, B, A: log of A over B."""
    before, first, second, after = quartet
    return math.log((before + after) / (first + second))


def pooled_deviation(groups: Iterable[Sequence[float]]) -> float | None:
    """The deviation within groups of log ratios (one a flow and load); None when no group has two."""
    squares = freedom = 0.0
    for values in groups:
        if len(values) > 1:
            mean = math.fsum(values) / len(values)
            squares += math.fsum((value - mean) ** 2 for value in values)
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else None


def rounds_for(resolution: float, deviation: float) -> int:
    return min(MOST, max(LEAST, blocks_for_resolution(resolution, max(deviation, 1e-6))))


def said_before(rounds: int, deviation: float | None, resolution: float, where: str) -> str:
    """One sentence. where: the rounds that the deviation is from."""
    if deviation is None:
        return f"{rounds} rounds of A B B A; how far a round strays on this machine is not known yet"
    comes_to = 100 * resolution_of(rounds, deviation)
    needed = rounds_for(resolution, deviation)
    ends = f"ratios to ± {comes_to:.1f} %" if math.isfinite(comes_to) else "no interval"
    return (
        f"{rounds} rounds of A B B A give {ends}, as a round strays by {100 * deviation:.1f} % ({where}); "
        f"± {100 * resolution:g} % takes {needed}"
    )


def recorded_deviation(ledger, device: str, load: str) -> float | None:
    """Of the rounds of the newest run on this device with this load that the ledger holds."""
    rows = ledger.rows(
        "SELECT r.id AS run, a.name AS arm, b.baseline, b.round, b.position, b.seconds FROM block b JOIN arm a ON a.id = b.arm "
        "JOIN run r ON r.id = a.run JOIN environment e ON e.digest = r.environment "
        "WHERE e.device = ? AND b.load = ? AND r.id NOT IN (SELECT run FROM retraction) ORDER BY r.began DESC LIMIT 4000",
        (device, load),
    )
    if not rows:
        return None
    newest = rows[0]["run"]
    quartets: dict[tuple[str, str, int], dict[int, float]] = {}
    for row in rows:
        if row["run"] == newest:
            pair = tuple(sorted((row["arm"], row["baseline"])))
            quartets.setdefault((*pair, row["round"]), {})[row["position"]] = row["seconds"]
    groups: dict[tuple[str, str], list[float]] = {}
    for (one, other, _), seconds in sorted(quartets.items()):
        if sorted(seconds) == [0, 1, 2, 3]:
            groups.setdefault((one, other), []).append(log_ratio([seconds[place] for place in range(4)]))
    return pooled_deviation(groups.values())
