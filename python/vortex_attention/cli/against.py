"""A bench beside an earlier run of the ledger: refused unless machine, commit and settings are the same, or one says --across. The flows that both
timed are compared by their ratios to full attention, each paired in its own run."""

from __future__ import annotations

import json
import math

from scipy import stats

from ..errors import UserError
from ..ledger import Ledger
from ..measure.comparable import FACTS, require_comparable
from ..measure.provenance import provenance
from ..measure.rounds import log_ratio

SETTINGS = ("batch", "contexts", "steps", "threads")


class EarlierRun:
    """A speed run of the ledger by the start of its id."""

    def __init__(self, ledger: Ledger | None, start: str):
        if ledger is None:
            raise UserError("bench", "a ledger, for --against-run", "--ledger none", "leave --ledger out")
        self.ledger, self.id = ledger, ledger.run_id(start)
        (row,) = ledger.rows(
            "SELECT r.*, e.commit_id, e.dirty, e.device, e.driver, e.facts FROM run r JOIN environment e ON e.digest = r.environment "
            "WHERE r.id = ?",
            (self.id,),
        )
        if row["kind"] != "speed":
            raise UserError(
                "bench", "a run of vortex bench", f"{self.id[:8]}, a run of {row['kind']}", "see `vortex ledger show`"
            )
        facts, settings = json.loads(row["facts"]), json.loads(row["settings"])
        known = facts | {
            "commit": row["commit_id"],
            "dirty": bool(row["dirty"]),
            "device": row["device"],
            "driver": row["driver"],
        }
        self.facts = {name: known.get(name, "unknown") for name in FACTS}
        self.facts |= {name: settings.get(name, "unknown") for name in SETTINGS}
        self.facts |= {"model": row["model_sha256"][:12], "numerics": row["numerics"]}

    def require_like(self, experiment) -> None:
        """UserError unless the experiment runs where and as this run did."""
        known = provenance(experiment.device_facts)
        here = {name: known.get(name, "unknown") for name in FACTS} | {
            "dirty": bool(known["dirty"]),
            "batch": experiment.settings.batch,
            "contexts": list(experiment.settings.contexts),
            "steps": experiment.steps,
            "threads": experiment.threads,
            "model": experiment.loaded.sha256[:12],
            "numerics": experiment.numerics,
        }
        require_comparable(here, self.facts, self.id[:8])

    def beside(self, run: str) -> list[dict]:
        """Of each flow (by hash) and load that both runs timed: full ÷ flow here and there, and here over there with a 95 % interval."""
        there, here = self._log_ratios(self.id), self._log_ratios(run)
        rows = []
        for key, logs in here.items():
            if key in there:
                name, load = logs["name"], key[1]
                rows.append({"name": name, "load": load, **_compare(logs["values"], there[key]["values"])})
        return rows

    def _log_ratios(self, run: str) -> dict[tuple[str, str], dict]:
        rows = self.ledger.rows(
            "SELECT a.name AS arm, a.role, a.flow_hash, b.load, b.baseline, b.round, b.position, b.seconds FROM block b "
            "JOIN arm a ON a.id = b.arm WHERE a.run = ?",
            (run,),
        )
        hashes = {row["arm"]: row["flow_hash"] for row in rows if row["flow_hash"]}
        quartets: dict[tuple[str, str, int], dict[int, float]] = {}
        for row in rows:
            flow = row["baseline"] if row["role"] == "full" else row["arm"]
            if row["role"] == "full" or row["baseline"] == "full":
                quartets.setdefault((flow, row["load"], row["round"]), {})[row["position"]] = row["seconds"]
        found: dict[tuple[str, str], dict] = {}
        for (flow, load, _), seconds in sorted(quartets.items()):
            if flow in hashes and sorted(seconds) == [0, 1, 2, 3]:
                entry = found.setdefault((hashes[flow], load), {"name": flow, "values": []})
                entry["values"].append(log_ratio([seconds[place] for place in range(4)]))
        return found


def _compare(here: list[float], there: list[float]) -> dict:
    """Welch's interval of the difference of mean logarithms, mapped back."""
    means = [math.fsum(values) / len(values) for values in (here, there)]
    center, low, high = means[0] - means[1], -math.inf, math.inf
    if min(len(here), len(there)) > 1:
        parts = [
            math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
            for values, mean in zip((here, there), means)
        ]
        error = math.sqrt(sum(parts))
        if error == 0:
            low = high = center
        else:
            freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (here, there)))
            half = float(stats.t.ppf(0.975, freedom)) * error
            low, high = center - half, center + half
    return {
        "here": math.exp(means[0]),
        "there": math.exp(means[1]),
        "change": {
            "center": math.exp(center),
            "low": math.exp(low),
            "high": math.exp(min(high, 700.0)),
            "count": len(here),
        },
    }
