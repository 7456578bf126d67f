-- A ledger as version 1 of the schema wrote it; never changed. PRAGMAs stand for the file's header.
PRAGMA application_id = 1448368177;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
INSERT INTO "arm" VALUES(1,'4f809034f14245ffae210419bd560cf4','full','full',NULL,NULL,'2b75609fae91f48c0b9dab8f82b0eb5c2a92a147c02c774814983d6479b6c4aa');
INSERT INTO "arm" VALUES(2,'4f809034f14245ffae210419bd560cf4','quest','flow','1e07e02686abd273',1,'2fb89f6ac3f42250a518a494634c22ad68a15f08d76da0577846d1ae65049e32');
INSERT INTO "arm" VALUES(3,'20b528551f214840805d567d9d96fabb','full','full',NULL,NULL,'bc6feb05572f546b300586262a7131cc4dbbaaf4ee4ae666fce9d4f1ce6d32a6');
INSERT INTO "arm" VALUES(4,'20b528551f214840805d567d9d96fabb','quest','flow','1e07e02686abd273',1,'17235d150a3141a0fc3e1ecfa99d8ea70d682914d28b3b47ac8f64f9778cba4d');
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
INSERT INTO "block" VALUES(3,'8x64',0,0,'quest',0.5,'{"digest":1.5}');
INSERT INTO "block" VALUES(3,'8x64',0,3,'quest',0.5,'{}');
INSERT INTO "block" VALUES(4,'8x64',0,1,'full',0.25,'{"digest":1.25}');
INSERT INTO "block" VALUES(4,'8x64',0,2,'full',0.25,'{}');
CREATE TABLE environment (
  digest      TEXT PRIMARY KEY,           -- of all the other columns
  commit_id   TEXT NOT NULL,
  dirty       INTEGER,                    -- 1: the checkout held changes; null: not a checkout
  device      TEXT NOT NULL,
  driver      TEXT NOT NULL,              -- "" on a CPU
  facts       TEXT NOT NULL               -- JSON: cores, system, python, libraries, instruction set
);
INSERT INTO "environment" VALUES('401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','0123456789ab',0,'a machine','','{"cores":2,"libraries":{"numpy":"2.0.0"}}');
CREATE TABLE event (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  at           TEXT NOT NULL,
  kind         TEXT NOT NULL,             -- of discovery: hypothesis, verdict, claim, ...
  subject      TEXT NOT NULL,             -- a flow's hash, a run's id, a round's name
  actor        TEXT NOT NULL,
  body         TEXT NOT NULL              -- JSON
);
INSERT INTO "event" VALUES(1,'2026-11-28T19:32:48.864+00:00','note','quest','somebody','{"text":"hello"}');
CREATE TABLE flow (
  hash        TEXT NOT NULL,              -- of the canonical IR with its settings
  ir_version  INTEGER NOT NULL,
  name        TEXT NOT NULL,              -- untrusted, as are doc and ir
  doc         TEXT NOT NULL,
  config      TEXT NOT NULL,
  ir          TEXT NOT NULL,              -- parse_flow reads it back
  PRIMARY KEY (hash, ir_version)
);
INSERT INTO "flow" VALUES('1e07e02686abd273',1,'Quest','An upper bound of q·k over each page (Tang et al., Quest, 2024).','page_size=16 budget=32 budget_ratio=0 sinks=1 recent=2 full_attention_layers=none summary_dtype=bf16','vortex_ir 1
flow "Quest"
doc "An upper bound of q·k over each page (Tang et al., Quest, 2024)."
source "vortex_attention/flows/quest.py"
config page_size=16 budget=32 budget_ratio=0 sinks=1 recent=2 full_attention_layers=none summary_dtype=bf16
%0 = page_k() : f32[token, dim] @page ; 10
%1 = min(%0, axis="token") : f32[dim] @page ; 10
summary lo = %1
%2 = max(%0, axis="token") : f32[dim] @page ; 11
summary hi = %2
%3 = q() : f32[head, dim] @row ; 13
%4 = summary(name="lo") : f32[dim] @page ; 14
%5 = mul(%3, %4) : f32[head, dim] @page ; 14
%6 = summary(name="hi") : f32[dim] @page ; 14
%7 = mul(%3, %6) : f32[head, dim] @page ; 14
%8 = maximum(%5, %7) : f32[head, dim] @page ; 14
%9 = sum(%8, axis="dim") : f32[head] @page ; 14
%10 = softmax(%9, axis="page") : f32[head] @page ; 15
%11 = sum(%10, axis="head") : f32[] @page ; 15
score = %11
');
CREATE TABLE outcome (
  arm          INTEGER NOT NULL REFERENCES arm,
  item         TEXT NOT NULL,
  scores       TEXT NOT NULL,             -- JSON by metric: numbers, booleans, lists
  observed     TEXT NOT NULL,             -- JSON: pages and tokens attended, kernels, graph, as the engine counted them
  reused_from  INTEGER REFERENCES arm,    -- null: measured in this run
  PRIMARY KEY (arm, item)
) WITHOUT ROWID;
INSERT INTO "outcome" VALUES(1,'needle-0','{"exact":true,"kl":0.0,"log_probability":-0.125}','{"attended_tokens":64.0}',NULL);
INSERT INTO "outcome" VALUES(2,'needle-0','{"exact":false,"kl":0.25,"log_probability":-0.5}','{"attended_tokens":48.0}',NULL);
CREATE TABLE retraction (
  run          TEXT PRIMARY KEY REFERENCES run,
  at           TEXT NOT NULL,
  reason       TEXT NOT NULL
);
INSERT INTO "retraction" VALUES('7f1185ccbdf64a0b809ebdb20d209262','2026-11-28T19:32:48.858+00:00','the prompt was cut short');
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
INSERT INTO "run" VALUES('4f809034f14245ffae210419bd560cf4','accuracy','needle','2026-11-28T19:32:48.747+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{"length":64,"seed":1}',23234);
INSERT INTO "run" VALUES('20b528551f214840805d567d9d96fabb','speed','decode','2026-11-28T19:32:48.794+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{"steps":4}',23234);
INSERT INTO "run" VALUES('eba1be37597246deb669ab953714cae3','accuracy','text','2026-11-28T19:32:48.833+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{}',23234);
INSERT INTO "run" VALUES('7f1185ccbdf64a0b809ebdb20d209262','accuracy','needle','2026-11-28T19:32:48.839+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{"length":64,"seed":2}',23234);
CREATE TABLE run_end (
  run          TEXT PRIMARY KEY REFERENCES run,
  ended        TEXT NOT NULL,
  status       TEXT NOT NULL CHECK (status IN ('done', 'failed', 'interrupted')),
  reason       TEXT NOT NULL,
  summary      TEXT NOT NULL              -- JSON
);
INSERT INTO "run_end" VALUES('4f809034f14245ffae210419bd560cf4','2026-11-28T19:32:48.783+00:00','done','','{}');
INSERT INTO "run_end" VALUES('20b528551f214840805d567d9d96fabb','2026-11-28T19:32:48.827+00:00','done','','{}');
INSERT INTO "run_end" VALUES('7f1185ccbdf64a0b809ebdb20d209262','2026-11-28T19:32:48.850+00:00','done','','{}');
CREATE INDEX arm_by_key ON arm (key);
CREATE INDEX arm_by_flow ON arm (flow_hash);
CREATE INDEX event_by_subject ON event (subject, kind);
CREATE INDEX event_by_kind ON event (kind);
CREATE TRIGGER flow_no_update BEFORE UPDATE ON flow BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: flow'); END;
CREATE TRIGGER flow_no_delete BEFORE DELETE ON flow BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: flow'); END;
CREATE TRIGGER environment_no_update BEFORE UPDATE ON environment BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: environment'); END;
CREATE TRIGGER environment_no_delete BEFORE DELETE ON environment BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: environment'); END;
CREATE TRIGGER run_no_update BEFORE UPDATE ON run BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: run'); END;
CREATE TRIGGER run_no_delete BEFORE DELETE ON run BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: run'); END;
CREATE TRIGGER run_end_no_update BEFORE UPDATE ON run_end BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: run_end'); END;
CREATE TRIGGER run_end_no_delete BEFORE DELETE ON run_end BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: run_end'); END;
CREATE TRIGGER arm_no_update BEFORE UPDATE ON arm BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: arm'); END;
CREATE TRIGGER arm_no_delete BEFORE DELETE ON arm BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: arm'); END;
CREATE TRIGGER outcome_no_update BEFORE UPDATE ON outcome BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: outcome'); END;
CREATE TRIGGER outcome_no_delete BEFORE DELETE ON outcome BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: outcome'); END;
CREATE TRIGGER block_no_update BEFORE UPDATE ON block BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: block'); END;
CREATE TRIGGER block_no_delete BEFORE DELETE ON block BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: block'); END;
CREATE TRIGGER retraction_no_update BEFORE UPDATE ON retraction BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: retraction'); END;
CREATE TRIGGER retraction_no_delete BEFORE DELETE ON retraction BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: retraction'); END;
CREATE TRIGGER event_no_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: event'); END;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: event'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',1);
COMMIT;
