"""The tables, as a list of migrations: entry n brings a ledger from version n to n + 1 (`PRAGMA user_version`). An entry that
has been released is never changed; a change is another entry. Every table is append-only, held by triggers."""

from __future__ import annotations

APPLICATION_ID = 0x56545831  # "VTX1", in the file's header

TABLES_1 = """
CREATE TABLE flow (
  hash        TEXT NOT NULL,              -- of the canonical IR with its settings
  ir_version  INTEGER NOT NULL,
  name        TEXT NOT NULL,              -- untrusted, as are doc and ir
  doc         TEXT NOT NULL,
  config      TEXT NOT NULL,
  ir          TEXT NOT NULL,              -- parse_flow reads it back
  PRIMARY KEY (hash, ir_version)
);
CREATE TABLE environment (
  digest      TEXT PRIMARY KEY,           -- of all the other columns
  commit_id   TEXT NOT NULL,
  dirty       INTEGER,                    -- 1: the checkout held changes; null: not a checkout
  device      TEXT NOT NULL,
  driver      TEXT NOT NULL,              -- "" on a CPU
  facts       TEXT NOT NULL               -- JSON: cores, system, python, libraries, instruction set
);
CREATE TABLE run (
  id           TEXT PRIMARY KEY,          -- 32 hex digits
  kind         TEXT NOT NULL,             -- accuracy, speed, screen, ...
  suite        TEXT NOT NULL,
  began        TEXT NOT NULL,             -- UTC, ISO 8601
  environment  TEXT NOT NULL REFERENCES environment,
  model        TEXT NOT NULL,
  model_sha256 TEXT NOT NULL,
  numerics     TEXT NOT NULL,
  settings     TEXT NOT NULL,             -- JSON, seeds included
  process      INTEGER NOT NULL           -- process id, to tell a running run from one that was killed
);
CREATE TABLE run_end (
  run          TEXT PRIMARY KEY REFERENCES run,
  ended        TEXT NOT NULL,
  status       TEXT NOT NULL CHECK (status IN ('done', 'failed', 'interrupted')),
  reason       TEXT NOT NULL,
  summary      TEXT NOT NULL              -- JSON
);
CREATE TABLE arm (
  id           INTEGER PRIMARY KEY,
  run          TEXT NOT NULL REFERENCES run,
  name         TEXT NOT NULL,
  role         TEXT NOT NULL CHECK (role IN ('full', 'flow', 'control')),
  flow_hash    TEXT,                      -- null: full attention
  ir_version   INTEGER,
  key          TEXT NOT NULL,             -- accuracy_key
  UNIQUE (run, name),
  FOREIGN KEY (flow_hash, ir_version) REFERENCES flow
);
CREATE INDEX arm_by_key ON arm (key);
CREATE INDEX arm_by_flow ON arm (flow_hash);
CREATE TABLE outcome (
  arm          INTEGER NOT NULL REFERENCES arm,
  item         TEXT NOT NULL,
  scores       TEXT NOT NULL,             -- JSON by metric: numbers, booleans, lists
  observed     TEXT NOT NULL,             -- JSON: pages and tokens attended, kernels, graph, as the engine counted them
  reused_from  INTEGER REFERENCES arm,    -- null: measured in this run
  PRIMARY KEY (arm, item)
) WITHOUT ROWID;
CREATE TABLE block (
  arm          INTEGER NOT NULL REFERENCES arm,
  load         TEXT NOT NULL,             -- what was timed: "8x7500", a workload's name
  round        INTEGER NOT NULL,          -- blocks of one round are one A B B A
  position     INTEGER NOT NULL,          -- 0 to 3 within the round, across its arms
  baseline     TEXT NOT NULL,             -- the arm this round pairs with, "" for none
  seconds      REAL NOT NULL,             -- a step
  observed     TEXT NOT NULL,             -- JSON
  PRIMARY KEY (arm, load, baseline, round, position)
) WITHOUT ROWID;
CREATE TABLE retraction (
  run          TEXT PRIMARY KEY REFERENCES run,
  at           TEXT NOT NULL,
  reason       TEXT NOT NULL
);
CREATE TABLE event (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  at           TEXT NOT NULL,
  kind         TEXT NOT NULL,             -- of discovery: hypothesis, verdict, claim, ...
  subject      TEXT NOT NULL,             -- a flow's hash, a run's id, a round's name
  actor        TEXT NOT NULL,
  body         TEXT NOT NULL              -- JSON
);
CREATE INDEX event_by_subject ON event (subject, kind);
CREATE INDEX event_by_kind ON event (kind);
"""

TABLES_2 = """
CREATE TABLE study (
  name         TEXT PRIMARY KEY,
  began        TEXT NOT NULL,
  settings     TEXT NOT NULL              -- JSON: model, workloads, gates, seed
);
CREATE TABLE proposal (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  study        TEXT NOT NULL REFERENCES study,
  round        INTEGER NOT NULL,          -- 0: handed in from outside a round
  slot         INTEGER NOT NULL,
  at           TEXT NOT NULL,
  author       TEXT NOT NULL,
  flow_hash    TEXT,                      -- null: its file did not become a flow
  ir_version   INTEGER,
  source       TEXT NOT NULL,             -- as it was handed in; untrusted, as is hypothesis
  parents      TEXT NOT NULL,             -- JSON: ids of proposals
  hypothesis   TEXT NOT NULL,             -- written before any result
  UNIQUE (study, round, slot),
  FOREIGN KEY (flow_hash, ir_version) REFERENCES flow
);
CREATE INDEX proposal_by_flow ON proposal (study, flow_hash);
CREATE TABLE verdict (
  proposal     INTEGER NOT NULL REFERENCES proposal,
  gate         TEXT NOT NULL,
  at           TEXT NOT NULL,
  status       TEXT NOT NULL CHECK (status IN ('passed', 'failed', 'answered', 'quarantined')),
  reason       TEXT NOT NULL,
  seconds      REAL NOT NULL,             -- that the gate took
  run          TEXT REFERENCES run,       -- where its numbers are; null: it measured nothing
  facts        TEXT NOT NULL,             -- JSON
  PRIMARY KEY (proposal, gate)
) WITHOUT ROWID;
CREATE TABLE lease (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  proposal     INTEGER NOT NULL REFERENCES proposal,
  worker       TEXT NOT NULL,             -- host, process, and when the process began
  until        REAL NOT NULL              -- seconds since 1970; a later lease of the worker renews or ends it
);
CREATE INDEX lease_by_proposal ON lease (proposal);
"""

TABLES_3 = """
ALTER TABLE proposal ADD COLUMN handed_in TEXT NOT NULL DEFAULT '{}';  -- JSON beside the source: settings, the class meant
CREATE TABLE submission (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  proposal     INTEGER NOT NULL REFERENCES proposal,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,             -- whose turn and whose account the gates are; untrusted
  until        TEXT NOT NULL CHECK (until IN ('check', 'screen', 'gate', 'bench', 'confirm')),
  UNIQUE (proposal, until)
);
CREATE TABLE withdrawal (
  submission   INTEGER PRIMARY KEY REFERENCES submission,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,
  reason       TEXT NOT NULL
);
CREATE TABLE spending (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  study        TEXT NOT NULL REFERENCES study,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,
  proposal     INTEGER REFERENCES proposal, -- null: of no proposal in particular
  what         TEXT NOT NULL,             -- tokens_in, tokens_out, dollars
  amount       REAL NOT NULL
);
CREATE INDEX spending_by_study ON spending (study, agent);
"""

# What was taken back may be asked for again, so that a proposal may have several submissions up to the same gate.
TABLES_4 = """
CREATE TABLE submission_any (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  proposal     INTEGER NOT NULL REFERENCES proposal,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,             -- whose turn and whose account the gates are; untrusted
  until        TEXT NOT NULL CHECK (until IN ('check', 'screen', 'gate', 'bench', 'confirm'))
);
INSERT INTO submission_any SELECT id, proposal, at, agent, until FROM submission;
CREATE TABLE withdrawal_any (
  submission   INTEGER PRIMARY KEY REFERENCES submission_any,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,
  reason       TEXT NOT NULL
);
INSERT INTO withdrawal_any SELECT submission, at, agent, reason FROM withdrawal;
DROP TABLE withdrawal;
DROP TABLE submission;
ALTER TABLE submission_any RENAME TO submission;
ALTER TABLE withdrawal_any RENAME TO withdrawal;
CREATE INDEX submission_by_proposal ON submission (proposal);
"""

# Columns that hold JSON, by table.
JSON = {
    "environment": ("facts",),
    "run": ("settings",),
    "run_end": ("summary",),
    "outcome": ("scores", "observed"),
    "block": ("observed",),
    "event": ("body",),
    "study": ("settings",),
    "proposal": ("parents", "handed_in"),
    "verdict": ("facts",),
}

APPEND_ONLY_1 = ("flow", "environment", "run", "run_end", "arm", "outcome", "block", "retraction", "event")


def append_only(table: str) -> str:
    """Triggers that refuse UPDATE and DELETE of the table; a migration that adds a table adds them too."""
    return "".join(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN "
        f"SELECT RAISE(ABORT, 'the ledger is append-only: {table}'); END;\n"
        for verb in ("UPDATE", "DELETE")
    )


APPEND_ONLY_2 = ("study", "proposal", "verdict", "lease")
APPEND_ONLY_3 = ("submission", "withdrawal", "spending")
APPEND_ONLY_4 = ("submission", "withdrawal")

MIGRATIONS = [
    TABLES_1 + "".join(append_only(table) for table in APPEND_ONLY_1),
    TABLES_2 + "".join(append_only(table) for table in APPEND_ONLY_2),
    TABLES_3 + "".join(append_only(table) for table in APPEND_ONLY_3),
    TABLES_4 + "".join(append_only(table) for table in APPEND_ONLY_4),
]
