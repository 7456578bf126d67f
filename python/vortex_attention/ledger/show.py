"""One run in a form that a table or a page can show. Means only: intervals and tests are measure's."""

from __future__ import annotations

import json
from collections import defaultdict

from .store import Ledger


def of_run(ledger: Ledger, run: str) -> dict:
    """{"run": facts, "arms": [{"name", "role", "flow_hash", "items", "blocks", "means" by metric}]}; seconds a step among the
    means as "seconds LOAD"."""
    facts = next(row for row in ledger.runs() if row["id"] == run)
    arms = ledger.rows("SELECT id, name, role, flow_hash FROM arm WHERE run = ? ORDER BY id", (run,))
    for arm in arms:
        values: dict[str, list[float]] = defaultdict(list)
        outcomes = ledger.rows("SELECT scores, observed FROM outcome WHERE arm = ?", (arm["id"],))
        for row in outcomes:
            for name, value in (json.loads(row["scores"]) | json.loads(row["observed"])).items():
                if isinstance(value, (int, float)):
                    values[name].append(float(value))
        blocks = ledger.rows("SELECT load, seconds FROM block WHERE arm = ?", (arm["id"],))
        for row in blocks:
            values[f"seconds {row['load']}"].append(row["seconds"])
        arm.update(
            items=len(outcomes),
            blocks=len(blocks),
            means={name: sum(found) / len(found) for name, found in values.items()},
        )
        del arm["id"]
    return {"run": facts, "arms": arms}
