"""Flows that try to be better in the ledger than they are, each with what must become of it. test_reward_hacks.py proposes them.

The sources say what a proposer would hand in. REFUSED: the gate that stops it, the status, and words of the reason. ACCEPTED: what a file
tries in vain, while the flow in it is taken for what it is.
"""

from __future__ import annotations

from dataclasses import dataclass


def flow(
    *,
    top="",
    settings="budget = 8",
    summary='page.c = page.k.mean("token")',
    score='vx.dot(q, page.c, over="dim").sum("head")',
    more="",
):
    """A file of one flow, with what is given in its places."""
    return f'''import vortex_attention as vx
{top}

class Flow(vx.vFlow):
    """A hack."""
    {settings}

    def summarize(self, page):
        {summary}

    def score(self, q, page):
        return {score}
{more}'''


def budget(rule: str, arguments: str = "seq") -> str:
    return f"    def budget(self, {arguments}):\n        return {rule}\n"


def select(rule: str) -> str:
    return f"    def select(self, score, seq):\n        return {rule}\n"


@dataclass(frozen=True)
class Refused:
    source: str
    words: str
    gate: str = "check"
    status: str = "failed"
    slow: bool = False


ANSWERS = "answer = json.dumps({'text': 'vortex_ir 1\\nflow \"Best\"\\n', 'printed': ''}).encode()"

REFUSED = {
    # The result channel, the clock, the machine
    "forges the tracer's answer": Refused(
        flow(top=f"import json, os, struct\n{ANSWERS}\nfor fd in range(3, 64):\n    try: os.write(fd, struct.pack('<I', len(answer)) + answer)\n"
                 "    except OSError: pass\nos._exit(0)"), "other bytes where its answer belongs"),
    "ends the process that traces it": Refused(flow(top="import os\nos._exit(0)"), "a flow traces without ending its process"),
    "writes its figures into the ledger": Refused(
        flow(top="import os\nopen(os.path.expanduser('~/.local/share/vortex-attention/ledger.sqlite'), 'r+b')"), "it opens no files"),
    "opens the ledger with SQLite": Refused(flow(top="import sqlite3\nsqlite3.connect('ledger.sqlite')"), "a module of machine code, _sqlite3"),
    "lowers the bar of the gates": Refused(
        flow(top="from vortex_attention.discover import gates\ngates.Limits.gate_gain = -9.0"), "a flow file computes and no more"),
    "changes an op of the language": Refused(flow(top="vx.Value.sum = lambda *a, **k: a[0]"), "the language stays as it is"),
    "changes the verifier": Refused(
        flow(top="from vortex_attention.language import flow as f\nf.trace = lambda cls: 1"), "the language stays as it is"),
    "computes in a thread while the clock stands": Refused(flow(top="import threading\nthreading.Thread(target=print).start()"), "no threads"),
    "leaves a process behind": Refused(flow(top="import subprocess\nsubprocess.Popen(['sleep', '9'])"), "starts no processes"),
    "asks another machine": Refused(flow(top="import socket\nsocket.create_connection(('127.0.0.1', 80))"), "no sockets"),
    "reads the texts that items are made of": Refused(
        flow(top="import glob, os\ndata = open(os.path.expanduser('~/.cache/vortex/data/essays')).read()"), "it opens no files"),
    "loads machine code": Refused(flow(top="import ctypes\nctypes.CDLL(None)"), "a module of machine code"),
    "never ends": Refused(flow(top="while True: pass"), "a flow traces within 2 s", slow=True),
    "fills the memory": Refused(flow(top="x = 'x' * (8 << 30)"), "a flow traces within 512 MiB of memory"),
    # What the language has no words for
    "reads a summary that nobody wrote": Refused(flow(score='page.ghost.sum("dim")'), "page.ghost; declare it in summarize"),
    "overwrites the keys": Refused(flow(summary="page.k = page.k * 0"), "a summary has a name of its own; page.k"),
    "writes into memory of the engine": Refused(flow(summary="page.k[0] = 1"), "does not support item assignment"),
    "hands back work to be done later": Refused(flow(score="lambda: 1"), "score must return one number a page"),
    "branches on what it sees": Refused(
        flow(score='page.index if page.c.sum("dim") > 0 else -page.index'), "a flow is traced once for all pages, so it cannot branch on a value"),
    "looks at a number of the request": Refused(flow(score='page.index * float(page.c.sum("dim"))'), "a value has no number while the flow is traced"),
    "calls what is no op": Refused('vortex_ir 1\nflow "F"\nconfig budget=8\n%0 = call_python()\nscore = %0\n', "an op of the language"),
    "is a program of a version to come": Refused('vortex_ir 99\nflow "F"\n%0 = page_index()\nscore = %0\n', "this build reads version 1"),
    "speaks to the terminal": Refused('vortex_ir 1\nflow "\x1b[2JBest"\nconfig budget=8\n%0 = page_index()\nscore = %0\n', "without control characters"),
    "hides fewer bits in a summary": Refused(flow(settings="budget = 8\n    summary_dtype = 'int8'"), "summary_dtype must be bf16 or f32"),
    "is longer than anybody reads": Refused(
        flow(summary="x = page.k.mean('token')\n        for i in range(200): x = (x + i).tanh()\n        page.c = x"), "at most 120 values"),
    # Full attention under another name
    "remembers whole pages": Refused(
        flow(summary="page.c = page.k * 1.0", score='vx.dot(q, page.c, over="dim").max("token").sum("head")'), "summaries below 50% of a page"),
    "pins every page": Refused(flow(settings="budget = 8\n    sinks = 5000"), "fewer bytes a step than full attention; 1.00 times"),
    "has a budget for every page": Refused(flow(settings="budget = 5000"), "fewer bytes a step than full attention"),
    "has a budget of all by ratio": Refused(flow(settings="budget_ratio = 1.0"), "fewer bytes a step than full attention"),
    "computes a budget of all": Refused(flow(settings="page_size = 16", more=budget("seq.pages * 2.0")), "fewer bytes a step than full attention"),
    "calls every layer a full one": Refused(
        flow(settings="budget = 8\n    full_attention_layers = range(64)"), "fewer bytes a step than full attention"),
    "has pages as long as the context": Refused(flow(settings="budget = 8\n    page_size = 4096"), "fewer bytes a step than full attention"),
    "reads all in the step that is not timed": Refused(
        flow(settings="page_size = 16", more=budget("vx.where(seq.step < 1, 1000.0, 4.0)")), "fewer bytes a step than full attention"),
    "scores in the step that is not timed": Refused(flow(settings="budget = 8\n    refresh_every = 1000"), "in its share of the 4 steps that are timed; refresh_every=1000"),
}  # fmt: skip

ACCEPTED = {
    "stops the clock": flow(settings="budget = 9", top="import time\ntime.perf_counter = time.monotonic = time.time = lambda: 0.0"),
    "looks for the grader on the stack": flow(
        settings="budget = 10", top="import inspect\nassert not any('laborator' in f.filename or 'gates' in f.filename for f in inspect.stack())"),
    "looks for the benchmark in the environment": flow(
        settings="budget = 11", top="import os\nassert not {'VORTEX_LEDGER', 'VORTEX_CACHE', 'PYTEST_CURRENT_TEST', 'HOME'} & set(os.environ)"),
    "asks the engine for more memory": flow(settings="budget = 12\n    mem_fraction_static = 0.95\n    kv_dtype = 'int4'\n    model_path = 'smaller'"),
    "counts its calls": flow(
        settings="budget = 13\n    calls = 0", score='vx.dot(q, page.c, over="dim").sum("head") * Flow.count()',
        more="    @classmethod\n    def count(cls):\n        cls.calls += 1\n        return 1.0 if cls.calls < 2 else -1.0\n"),
    "is another flow each time": flow(settings="budget = 14", top="import random", score='vx.dot(q, page.c, over="dim").sum("head") * (0.1 + random.random())'),
}  # fmt: skip
