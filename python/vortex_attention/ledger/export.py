"""The ledger as files for other tools: rows of one kind, flat, as JSON, CSV or Parquet. Refuses to replace a file half-way: it
appears by rename."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import MachineError, UserError, unknown_name
from .store import Ledger

_RUN = (
    "r.id AS run, r.began, r.kind, r.suite, r.model, r.model_sha256, r.numerics, r.settings, e.commit_id AS 'commit', e.dirty, e.device, "
    "e.driver, a.name AS arm, a.role, a.flow_hash, a.ir_version"
)
_JOIN = (
    "JOIN arm a ON a.id = t.arm JOIN run r ON r.id = a.run JOIN environment e ON e.digest = r.environment "
    "WHERE r.id NOT IN (SELECT run FROM retraction) ORDER BY r.began, a.id"
)
KINDS = {
    "outcomes": f"SELECT {_RUN}, t.item, t.scores, t.observed, t.reused_from IS NOT NULL AS reused FROM outcome t {_JOIN}, t.item",
    "blocks": f"SELECT {_RUN}, t.load, t.baseline, t.round, t.position, t.seconds, t.observed FROM block t {_JOIN}, t.load, t.round, t.position",
    "runs": "SELECT r.*, e.commit_id AS 'commit', e.dirty, e.device, e.driver, e.facts, n.status, n.ended, n.reason, n.summary, "
    "x.reason AS retracted FROM run r JOIN environment e ON e.digest = r.environment LEFT JOIN run_end n ON n.run = r.id "
    "LEFT JOIN retraction x ON x.run = r.id ORDER BY r.began",
    "flows": "SELECT * FROM flow ORDER BY name, hash",
    "events": "SELECT * FROM event ORDER BY id",
}
_JSON_COLUMNS = ("settings", "scores", "observed", "facts", "summary", "body")
FORMATS = ("json", "csv", "parquet")


def table(ledger: Ledger, kind: str) -> list[dict]:
    """Rows of a kind with their JSON parsed. Retracted runs are in `runs` only, with the reason."""
    if kind not in KINDS:
        raise unknown_name("ledger export", f"one of {', '.join(KINDS)}", kind, KINDS, "choose one of them")
    return [
        {
            name: json.loads(value) if name in _JSON_COLUMNS and value is not None else value
            for name, value in row.items()
        }
        for row in ledger.rows(KINDS[kind])
    ]


def flat(row: dict) -> dict:
    """Objects become columns name.key; lists stay JSON text."""
    out: dict = {}
    for name, value in row.items():
        if isinstance(value, dict):
            out.update({f"{name}.{key}": item for key, item in flat(value).items()})
        else:
            out[name] = json.dumps(value) if isinstance(value, list) else value
    return out


def export(ledger: Ledger, kind: str, format: str, path: Path) -> int:
    """Writes the rows of a kind; returns how many."""
    if format not in FORMATS:
        raise unknown_name("ledger export", f"a format among {', '.join(FORMATS)}", format, FORMATS, "choose one")
    rows = table(ledger, kind)
    write = {"json": _json, "csv": _csv, "parquet": _parquet() if format == "parquet" else None}[format]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            write(rows, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            "ledger export", f"a file that can be written at {path}", error.strerror or str(error), "name another file"
        ) from error
    return len(rows)


def _json(rows: list[dict], path: Path) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def _columns(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _csv(rows: list[dict], path: Path) -> None:
    rows = [flat(row) for row in rows]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _columns(rows))
        writer.writeheader()
        writer.writerows(rows)


def _parquet() -> Callable[[list[dict], Path], None]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "ledger export",
            "the package pyarrow, for Parquet",
            "it is not installed",
            "pip install 'vortex-attention[parquet]', or choose csv or json",
        ) from error

    def write(rows: list[dict], path: Path) -> None:
        rows = [flat(row) for row in rows]
        columns = {name: _one_kind([row.get(name) for row in rows]) for name in _columns(rows)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)

    return write


def _one_kind(values: list) -> list:
    """A Parquet column has one type: numbers become floats when they are mixed, anything else mixed becomes JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else json.dumps(value) for value in values]
