"""All that the ledger holds of one proposal: code, IR, price, what differs from its parents, results by item and by block."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter

from ..discover.study import Study
from ..errors import UserError

LONGEST = 200_000  # characters of a source that are shown
_VALUE = re.compile(r"^(%\d+) = (\w+)\((.*)\) : (.*?)(?: ; \d+)?$")
_NAME = re.compile(r"%\d+")


def details(study: Study, id: int) -> dict:
    """UserError when the study has no such proposal."""
    rows = study.ledger.rows(
        "SELECT p.*, f.name, f.doc, f.config, f.ir FROM proposal p LEFT JOIN flow f ON f.hash = p.flow_hash AND f.ir_version = p.ir_version "
        "WHERE p.id = ? AND p.study = ?",
        (id, study.name),
    )
    if not rows:
        raise UserError("ui", f"a proposal of study {study.name}", str(id), "see the list of proposals")
    row = rows[0]
    verdicts = study.ledger.rows("SELECT * FROM verdict WHERE proposal = ? ORDER BY at", (id,))
    parents = [parent for parent in json.loads(row["parents"]) if isinstance(parent, int)]
    children = [
        other["id"]
        for other in study.ledger.rows("SELECT id, parents FROM proposal WHERE study = ? AND id > ?", (study.name, id))
        if id in json.loads(other["parents"])
    ]
    price = next((json.loads(verdict["facts"]) for verdict in verdicts if verdict["gate"] == "check"), {})
    return {
        "id": id,
        "round": row["round"],
        "slot": row["slot"],
        "at": row["at"],
        "author": row["author"],
        "hash": row["flow_hash"],
        "ir_version": row["ir_version"],
        "name": row["name"] or "",
        "doc": row["doc"] or "",
        "config": row["config"] or "",
        "hypothesis": row["hypothesis"],
        "handed_in": json.loads(row["handed_in"]),
        "source": row["source"][:LONGEST],
        "ir": (row["ir"] or "")[:LONGEST],
        "price": price,
        "parents": parents,
        "children": children,
        "differences": [found for parent in parents if (found := _difference(study, parent, row))],
        "verdicts": [
            {name: verdict[name] for name in ("gate", "at", "status", "reason", "seconds", "run")}
            | {"facts": json.loads(verdict["facts"])}
            for verdict in verdicts
        ],
        "runs": [_results(study, verdict["gate"], verdict["run"]) for verdict in verdicts if verdict["run"]],
    }


def _difference(study: Study, parent: int, child: dict) -> dict | None:
    """Lines of IR, and of code where both are written in Python."""
    rows = study.ledger.rows(
        "SELECT p.source, f.name, f.ir FROM proposal p LEFT JOIN flow f ON f.hash = p.flow_hash AND f.ir_version = p.ir_version WHERE p.id = ?",
        (parent,),
    )
    if not rows:
        return None
    other = rows[0]
    both_code = not any(_is_ir(text) for text in (other["source"], child["source"]))
    return {
        "parent": parent,
        "name": other["name"] or "",
        "ir": ir_difference(other["ir"] or "", child["ir"] or ""),
        "code": _lines(other["source"][:LONGEST].splitlines(), child["source"][:LONGEST].splitlines())
        if both_code
        else [],
    }


def _is_ir(text: str) -> bool:
    return text.lstrip().startswith("vortex_ir")


def ir_difference(before: str, after: str) -> list[list[str]]:
    """[sign, line] of the later text, with "+" where the earlier has no such value and "-" for values that are gone. A value is known by its op, its
    attributes and the ops of its operands, so that numbers that shift are no difference."""
    old, new = _keyed(before), _keyed(after)
    matcher = difflib.SequenceMatcher(None, [key for key, _ in old], [key for key, _ in new], autojunk=False)
    only_old = Counter(key for key, _ in old) - Counter(key for key, _ in new)
    only_new = Counter(key for key, _ in new) - Counter(key for key, _ in old)
    found: list[list[str]] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag != "equal":
            for key, line in old[old_from:old_to]:
                if only_old[key] > 0:
                    only_old[key] -= 1
                    found.append(["-", line])
        for key, line in new[new_from:new_to]:
            moved = tag == "equal" or only_new[key] <= 0
            if not moved:
                only_new[key] -= 1
            found.append([" " if moved else "+", line])
    return found


def _keyed(text: str) -> list[tuple[str, str]]:
    """(what the line says, whatever its values are numbered; the line), without name, doc, source and line numbers."""
    ops: dict[str, str] = {}
    found = []
    for line in text.splitlines():
        if line.startswith(("flow ", "doc ", "source ", "vortex_ir")) or not line.strip():
            continue
        parts = _VALUE.match(line)
        if parts:
            number, op, arguments, kind = parts.groups()
            ops[number] = op
            key = f"{op}({_NAME.sub(lambda name: ops.get(name[0], '?'), arguments)}) : {kind}"
            found.append((key, f"{number} = {op}({arguments}) : {kind}"))
        else:
            found.append((_NAME.sub(lambda name: ops.get(name[0], "?"), line), line))
    return found


def _lines(before: list[str], after: list[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for tag, old_from, old_to, new_from, new_to in difflib.SequenceMatcher(
        None, before, after, autojunk=False
    ).get_opcodes():
        if tag != "equal":
            found += [["-", line] for line in before[old_from:old_to]]
        found += [[" " if tag == "equal" else "+", line] for line in after[new_from:new_to]]
    return found


def _results(study: Study, gate: str, run: str) -> dict:
    """Of a run: each item's scores of the flow and of full attention, each round's ratio of step times. No text of an item is in the ledger."""
    items: dict[str, dict] = {}
    for row in study.ledger.rows(
        "SELECT a.role, o.item, o.scores FROM outcome o JOIN arm a ON a.id = o.arm WHERE a.run = ?", (run,)
    ):
        side = "full" if row["role"] == "full" else "flow"
        scores = json.loads(row["scores"])
        items.setdefault(row["item"], {"item": row["item"]})[side] = {
            name: value for name, value in scores.items() if isinstance(value, (int, float, bool))
        }
    retracted = study.ledger.rows("SELECT reason FROM retraction WHERE run = ?", (run,))
    return {
        "gate": gate,
        "run": run,
        "retracted": retracted[0]["reason"] if retracted else None,
        "items": sorted(items.values(), key=lambda item: item["item"]),
        "ratios": [math.exp(ratio) for ratio in study.log_ratios(run)],
    }
