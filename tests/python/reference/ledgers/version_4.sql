-- A ledger as version 4 of the schema wrote it; never changed. PRAGMAs stand for the file's header.
PRAGMA application_id = 1448368177;
PRAGMA user_version = 4;
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
INSERT INTO "arm" VALUES(1,'1f1cf1cd037747409a569dbb363a4980','full','full',NULL,NULL,'2b75609fae91f48c0b9dab8f82b0eb5c2a92a147c02c774814983d6479b6c4aa');
INSERT INTO "arm" VALUES(2,'1f1cf1cd037747409a569dbb363a4980','quest','flow','1e07e02686abd273',1,'2fb89f6ac3f42250a518a494634c22ad68a15f08d76da0577846d1ae65049e32');
INSERT INTO "arm" VALUES(3,'0d4a169745b64b48898bc4cbbb5fd8ba','full','full',NULL,NULL,'bc6feb05572f546b300586262a7131cc4dbbaaf4ee4ae666fce9d4f1ce6d32a6');
INSERT INTO "arm" VALUES(4,'0d4a169745b64b48898bc4cbbb5fd8ba','quest','flow','1e07e02686abd273',1,'17235d150a3141a0fc3e1ecfa99d8ea70d682914d28b3b47ac8f64f9778cba4d');
INSERT INTO "arm" VALUES(5,'0d0217b7c2864a228bdd93756bdb8115','full','full',NULL,NULL,'13311029aa4bbeff54a17439b4c520d4d4031cd2f5ff7843d7237fe54dec315c');
INSERT INTO "arm" VALUES(6,'0d0217b7c2864a228bdd93756bdb8115','Quest','flow','1e07e02686abd273',1,'9e35d5cf5770cedfa1749dfe2dfa6f9b33cb8f88bb3326898efbf6cf124165c5');
INSERT INTO "arm" VALUES(7,'4265c846218448578b3395fd1e653c0b','full','full',NULL,NULL,'f7741dd6adde904d789ca1752d8bb4a31007b291c3f835ba3aea47ebf3e02a65');
INSERT INTO "arm" VALUES(8,'4265c846218448578b3395fd1e653c0b','Quest','flow','1e07e02686abd273',1,'6c0838796dc96d492589bf4247fa4e362600e0a70139fd9d7d849713c252608a');
INSERT INTO "arm" VALUES(9,'570c322344ee414ca4ca40f4194a4fa7','full','full',NULL,NULL,'4e54cb90343a2c9853c665366d81fc1613642a1e38c18a4c4912255c976dd274');
INSERT INTO "arm" VALUES(10,'570c322344ee414ca4ca40f4194a4fa7','Quest','flow','1e07e02686abd273',1,'6888ea5032184c685eb404a593c325ac5479f5525334d8ef333fbc3b0ef21c60');
INSERT INTO "arm" VALUES(11,'735abf2742d54a0c8f2c60adb082b9a8','full','full',NULL,NULL,'62893af1cbff1af3fbe0babe2f79f173706c93f1a657b71730aea1a4bcffaab5');
INSERT INTO "arm" VALUES(12,'735abf2742d54a0c8f2c60adb082b9a8','Quest','flow','1e07e02686abd273',1,'8a6eb14b0c8e7163f88c8c1898443746aa1cdc833272fec7e960ce6789b7ec56');
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
INSERT INTO "block" VALUES(9,'8x4096',0,0,'Quest',6.00430891205328762239e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(9,'8x4096',0,3,'Quest',6.02891273814234462946e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(10,'8x4096',0,1,'full',3.92406514324799352011e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(10,'8x4096',0,2,'full',3.95845316990708628868e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(11,'8x4096',0,0,'Quest',6.01948664058299387491e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(11,'8x4096',0,3,'Quest',5.94176852618982509479e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(11,'8x4096',1,0,'Quest',6.00316720941358392127e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(11,'8x4096',1,3,'Quest',6.04063584036885065087e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(12,'8x4096',0,1,'full',3.93874009042558537174e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(12,'8x4096',0,2,'full',3.99203234330949216501e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(12,'8x4096',1,1,'full',3.9788233016978862e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
INSERT INTO "block" VALUES(12,'8x4096',1,2,'full',3.93408786860186335254e-02,'{"attended_tokens":512.0,"bytes":1.0,"digest":0.0,"parts":{}}');
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
INSERT INTO "event" VALUES(1,'2026-11-28T19:32:49.800+00:00','note','quest','somebody','{"text":"hello"}');
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
CREATE TABLE lease (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  proposal     INTEGER NOT NULL REFERENCES proposal,
  worker       TEXT NOT NULL,             -- host, process, and when the process began
  until        REAL NOT NULL              -- seconds since 1970; a later lease of the worker renews or ends it
);
INSERT INTO "lease" VALUES(1,1,'host:1:1',1.79589497476661443713e+09);
INSERT INTO "lease" VALUES(2,1,'host:1:1',0.0);
INSERT INTO "lease" VALUES(3,1,'host:1:1',1.79589497479645490642e+09);
INSERT INTO "lease" VALUES(4,1,'host:1:1',0.0);
INSERT INTO "lease" VALUES(5,1,'host:1:1',1.79589497490222811705e+09);
INSERT INTO "lease" VALUES(6,1,'host:1:1',0.0);
INSERT INTO "lease" VALUES(7,1,'host:1:1',1.79589497498413920399e+09);
INSERT INTO "lease" VALUES(8,1,'host:1:1',0.0);
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
INSERT INTO "outcome" VALUES(5,'null-screen-0-0','{"exact":true,"kl":0.0,"log_probability":-0.15964605780983837}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(5,'null-screen-0-1','{"exact":true,"kl":0.0,"log_probability":-0.41366773697071746}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(6,'null-screen-0-0','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.11027985756820599}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(6,'null-screen-0-1','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.49266850030048825}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(7,'null-gate-0-0','{"exact":true,"kl":0.0,"log_probability":0.005941645798408446}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(7,'null-gate-0-1','{"exact":true,"kl":0.0,"log_probability":-0.1267306930044868}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(8,'null-gate-0-0','{"exact":true,"kl":0.004472381248100931,"log_probability":0.015687053175765926}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(8,'null-gate-0-1','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.13572657994621548}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(11,'null-confirm-1000004-0','{"exact":true,"kl":0.0,"log_probability":-0.19401250928154778}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(11,'null-confirm-1000004-1','{"exact":true,"kl":0.0,"log_probability":-0.1771341100146811}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(11,'null-confirm-1000004-2','{"exact":true,"kl":0.0,"log_probability":-0.1272495087605856}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(11,'null-confirm-1000004-3','{"exact":true,"kl":0.0,"log_probability":-0.2450450196170799}','{"attended_tokens":4096.0}',NULL);
INSERT INTO "outcome" VALUES(12,'null-confirm-1000004-0','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.22519865426853977}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(12,'null-confirm-1000004-1','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.2230807709394836}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(12,'null-confirm-1000004-2','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.08778314121521183}','{"attended_tokens":512.0}',NULL);
INSERT INTO "outcome" VALUES(12,'null-confirm-1000004-3','{"exact":true,"kl":0.004472381248100931,"log_probability":-0.2819575411931421}','{"attended_tokens":512.0}',NULL);
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
  hypothesis   TEXT NOT NULL, handed_in TEXT NOT NULL DEFAULT '{}',             -- written before any result
  UNIQUE (study, round, slot),
  FOREIGN KEY (flow_hash, ir_version) REFERENCES flow
);
INSERT INTO "proposal" VALUES(1,'first',1,0,'2026-11-28T19:32:54.753+00:00','ready','1e07e02686abd273',1,'quest','[]','it finds the page','{}');
INSERT INTO "proposal" VALUES(2,'first',1,1,'2026-11-28T19:32:54.753+00:00','ready','1e07e02686abd273',1,'quest again','[]','once more','{}');
INSERT INTO "proposal" VALUES(3,'first',1,2,'2026-11-28T19:32:54.754+00:00','ready',NULL,NULL,'class X','[]','hope','{}');
CREATE TABLE retraction (
  run          TEXT PRIMARY KEY REFERENCES run,
  at           TEXT NOT NULL,
  reason       TEXT NOT NULL
);
INSERT INTO "retraction" VALUES('c631c50abd84408aa2183e1c591dc326','2026-11-28T19:32:49.792+00:00','the prompt was cut short');
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
INSERT INTO "run" VALUES('1f1cf1cd037747409a569dbb363a4980','accuracy','needle','2026-11-28T19:32:49.670+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{"length":64,"seed":1}',23266);
INSERT INTO "run" VALUES('0d4a169745b64b48898bc4cbbb5fd8ba','speed','decode','2026-11-28T19:32:49.728+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{"steps":4}',23266);
INSERT INTO "run" VALUES('640ec28b13a14f31b6cab868e0901796','accuracy','text','2026-11-28T19:32:49.765+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{}',23266);
INSERT INTO "run" VALUES('c631c50abd84408aa2183e1c591dc326','accuracy','needle','2026-11-28T19:32:49.776+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','tiny','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','1 avx2 kv=bf16 page=16','{"length":64,"seed":2}',23266);
INSERT INTO "run" VALUES('0d0217b7c2864a228bdd93756bdb8115','accuracy','discover screen','2026-11-28T19:32:54.806+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','null','0000000000000000000000000000000000000000000000000000000000000000','null','{"part":"screen","seed":0,"workload":{"batch":8,"confirm_items":4,"confirm_rounds":2,"context":4096,"gate_items":2,"length":4096,"model":"smollm2","rounds":1,"screen_items":2,"seed":1,"steps":4,"threads":0}}',23266);
INSERT INTO "run" VALUES('4265c846218448578b3395fd1e653c0b','accuracy','discover gate','2026-11-28T19:32:54.909+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','null','0000000000000000000000000000000000000000000000000000000000000000','null','{"part":"gate","seed":0,"workload":{"batch":8,"confirm_items":4,"confirm_rounds":2,"context":4096,"gate_items":2,"length":4096,"model":"smollm2","rounds":1,"screen_items":2,"seed":1,"steps":4,"threads":0}}',23266);
INSERT INTO "run" VALUES('570c322344ee414ca4ca40f4194a4fa7','speed','discover bench','2026-11-28T19:32:55.216+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','null','0000000000000000000000000000000000000000000000000000000000000000','null','{"part":"bench","seed":0,"workload":{"batch":8,"confirm_items":4,"confirm_rounds":2,"context":4096,"gate_items":2,"length":4096,"model":"smollm2","rounds":1,"screen_items":2,"seed":1,"steps":4,"threads":0}}',23266);
INSERT INTO "run" VALUES('735abf2742d54a0c8f2c60adb082b9a8','accuracy','discover confirm','2026-11-28T19:32:55.363+00:00','401dfa878d192bce291355cf679adcf74b5b43f2e821cae82a4208c432374006','null','0000000000000000000000000000000000000000000000000000000000000000','null','{"part":"confirm","seed":1000004,"workload":{"batch":8,"confirm_items":4,"confirm_rounds":2,"context":4096,"gate_items":2,"length":4096,"model":"smollm2","rounds":1,"screen_items":2,"seed":1,"steps":4,"threads":0}}',23266);
CREATE TABLE run_end (
  run          TEXT PRIMARY KEY REFERENCES run,
  ended        TEXT NOT NULL,
  status       TEXT NOT NULL CHECK (status IN ('done', 'failed', 'interrupted')),
  reason       TEXT NOT NULL,
  summary      TEXT NOT NULL              -- JSON
);
INSERT INTO "run_end" VALUES('1f1cf1cd037747409a569dbb363a4980','2026-11-28T19:32:49.717+00:00','done','','{}');
INSERT INTO "run_end" VALUES('0d4a169745b64b48898bc4cbbb5fd8ba','2026-11-28T19:32:49.764+00:00','done','','{}');
INSERT INTO "run_end" VALUES('c631c50abd84408aa2183e1c591dc326','2026-11-28T19:32:49.783+00:00','done','','{}');
INSERT INTO "run_end" VALUES('0d0217b7c2864a228bdd93756bdb8115','2026-11-28T19:32:54.852+00:00','done','','{}');
INSERT INTO "run_end" VALUES('4265c846218448578b3395fd1e653c0b','2026-11-28T19:32:54.952+00:00','done','','{}');
INSERT INTO "run_end" VALUES('570c322344ee414ca4ca40f4194a4fa7','2026-11-28T19:32:55.340+00:00','done','','{}');
INSERT INTO "run_end" VALUES('735abf2742d54a0c8f2c60adb082b9a8','2026-11-28T19:32:55.416+00:00','done','','{}');
CREATE TABLE spending (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  study        TEXT NOT NULL REFERENCES study,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,
  proposal     INTEGER REFERENCES proposal, -- null: of no proposal in particular
  what         TEXT NOT NULL,             -- tokens_in, tokens_out, dollars
  amount       REAL NOT NULL
);
INSERT INTO "spending" VALUES(1,'first','2026-11-28T19:59:27.932+00:00','me',NULL,'tokens_in',7.0);
CREATE TABLE study (
  name         TEXT PRIMARY KEY,
  began        TEXT NOT NULL,
  settings     TEXT NOT NULL              -- JSON: model, workloads, gates, seed
);
INSERT INTO "study" VALUES('first','2026-11-28T19:32:54.686+00:00','{"seed":1}');
CREATE TABLE "submission" (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  proposal     INTEGER NOT NULL REFERENCES proposal,
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,             -- whose turn and whose account the gates are; untrusted
  until        TEXT NOT NULL CHECK (until IN ('check', 'screen', 'gate', 'bench', 'confirm'))
);
INSERT INTO "submission" VALUES(1,1,'2026-11-28T19:59:27.924+00:00','me','screen');
INSERT INTO "submission" VALUES(2,1,'2026-11-28T19:59:27.928+00:00','you','bench');
INSERT INTO "submission" VALUES(3,1,'2026-11-28T20:54:18.161+00:00','another agent','bench');
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
INSERT INTO "verdict" VALUES(1,'bench','2026-11-28T19:32:55.348+00:00','passed','1.53 [0.00, inf] times full attention',1.31910803000209853053e-01,'570c322344ee414ca4ca40f4194a4fa7','{"ratio":{"center":1.5265707191714954,"count":1,"high":null,"low":0.0}}');
INSERT INTO "verdict" VALUES(1,'check','2026-11-28T19:32:54.777+00:00','passed','46.6 MB to score a step, 94.4 MB to attend',8.06923999334685504436e-04,NULL,'{"attend_bytes":94371840.0,"kv_bytes_per_page":4096,"score_bytes":46632960.0,"step_speedup":5.3542483660130715,"summary_bytes_per_page":256}');
INSERT INTO "verdict" VALUES(1,'confirm','2026-11-28T19:32:55.434+00:00','passed','-0.019 [-0.081, +0.044] nat on 4 items that nobody saw',7.13981539993255864828e-02,'735abf2742d54a0c8f2c60adb082b9a8','{"gain":{"center":-0.01864473998562073,"count":4,"high":0.04375403252918751,"low":-0.08104351250042897},"items":4,"kl":0.004472381248100931}');
INSERT INTO "verdict" VALUES(1,'gate','2026-11-28T19:32:54.968+00:00','passed','+0.000 [-0.119, +0.119] nat on 2 items',5.90109120003035059198e-02,'4265c846218448578b3395fd1e653c0b','{"gain":{"center":0.00037476021781440196,"count":2,"high":0.1194401215374226,"low":-0.11869060110179379},"items":2,"kl":0.004472381248100931}');
INSERT INTO "verdict" VALUES(1,'screen','2026-11-28T19:32:54.873+00:00','passed','-0.01 nat and KL 0.004 on 2 items',6.70501290005631744861e-02,'0d0217b7c2864a228bdd93756bdb8115','{"behaviour":"16:1e07e02686abd273","gain":-0.014817281544069208,"kl":0.004472381248100931}');
INSERT INTO "verdict" VALUES(2,'check','2026-11-28T19:32:54.754+00:00','answered','means what proposal 1 means',0.0,NULL,'{"twin":1}');
INSERT INTO "verdict" VALUES(3,'check','2026-11-28T19:32:54.754+00:00','failed','[x.py:1] a flow; none; write one',0.0,NULL,'{}');
CREATE TABLE "withdrawal" (
  submission   INTEGER PRIMARY KEY REFERENCES "submission",
  at           TEXT NOT NULL,
  agent        TEXT NOT NULL,
  reason       TEXT NOT NULL
);
INSERT INTO "withdrawal" VALUES(2,'2026-11-28T19:50:00.000+00:00','you','a slip');
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
CREATE INDEX proposal_by_flow ON proposal (study, flow_hash);
CREATE INDEX lease_by_proposal ON lease (proposal);
CREATE TRIGGER study_no_update BEFORE UPDATE ON study BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: study'); END;
CREATE TRIGGER study_no_delete BEFORE DELETE ON study BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: study'); END;
CREATE TRIGGER proposal_no_update BEFORE UPDATE ON proposal BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: proposal'); END;
CREATE TRIGGER proposal_no_delete BEFORE DELETE ON proposal BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: proposal'); END;
CREATE TRIGGER verdict_no_update BEFORE UPDATE ON verdict BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: verdict'); END;
CREATE TRIGGER verdict_no_delete BEFORE DELETE ON verdict BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: verdict'); END;
CREATE TRIGGER lease_no_update BEFORE UPDATE ON lease BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: lease'); END;
CREATE TRIGGER lease_no_delete BEFORE DELETE ON lease BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: lease'); END;
CREATE INDEX spending_by_study ON spending (study, agent);
CREATE TRIGGER spending_no_update BEFORE UPDATE ON spending BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: spending'); END;
CREATE TRIGGER spending_no_delete BEFORE DELETE ON spending BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: spending'); END;
CREATE INDEX submission_by_proposal ON submission (proposal);
CREATE TRIGGER submission_no_update BEFORE UPDATE ON submission BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: submission'); END;
CREATE TRIGGER submission_no_delete BEFORE DELETE ON submission BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: submission'); END;
CREATE TRIGGER withdrawal_no_update BEFORE UPDATE ON withdrawal BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: withdrawal'); END;
CREATE TRIGGER withdrawal_no_delete BEFORE DELETE ON withdrawal BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: withdrawal'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',1);
INSERT INTO "sqlite_sequence" VALUES('proposal',3);
INSERT INTO "sqlite_sequence" VALUES('lease',8);
INSERT INTO "sqlite_sequence" VALUES('spending',1);
INSERT INTO "sqlite_sequence" VALUES('submission',3);
COMMIT;
