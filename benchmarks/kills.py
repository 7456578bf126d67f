"""Kills a study at random moments, again and again, until it has come to its end, and looks at the ledger after each: what was there is
there, what was answered for is there, nothing is there twice. At the end the study must be the one that nobody disturbed.

usage: kills.py [--kills 1000] [--evaluator null] [--seed 1]        numbers from a flow's hash: the studies must be equal, word for word
       kills.py --kills 50 --evaluator tiny                         a tiny random model on the engine: equal accuracy, and all that was begun ends
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "python")]

from vortex_attention.discover import laboratory as laboratories  # noqa: E402
from vortex_attention.discover.campaign import Campaign  # noqa: E402
from vortex_attention.discover.laboratory import Laboratory, Workload  # noqa: E402
from vortex_attention.discover.null import NullLaboratory  # noqa: E402
from vortex_attention.discover.study import Study  # noqa: E402
from vortex_attention.ledger import Ledger  # noqa: E402

ROUNDS, VARIANTS = 1, 4
ENVIRONMENT = {"device": "kills", "commit": "0", "dirty": False}
TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))


@dataclass
class Subject:
    """What is killed: a study of this evaluator and seed in the ledger at `path`. model: of the tiny evaluator."""

    evaluator: str
    seed: int
    path: pathlib.Path
    model: str = ""

    def laboratory(self):
        if self.evaluator == "null":
            return NullLaboratory(Workload(screen_items=4, gate_items=8, confirm_items=16, seed=self.seed))
        laboratories.natural_text = lambda: TEXT
        made = Laboratory(Workload(model=self.model, length=640, screen_items=2, gate_items=4, confirm_items=4, batch=2, context=960, rounds=2,
                                   confirm_rounds=2, threads=1, seed=self.seed))  # fmt: skip
        made.require_need = lambda least: None  # a random model answers nothing, whatever it reads
        return made

    def work(self, answered=lambda text: None) -> None:
        """The study from where it is to its end. answered(text) is told of each verdict that the ledger has taken."""
        with Ledger.open(self.path) as ledger:
            study = Study.open(ledger, "killed", {"seed": self.seed})
            judge = study.judge

            def judge_and_say(proposal, verdict):
                taken = judge(proposal, verdict)
                answered(f"{proposal.id} {verdict.gate}")
                return taken

            study.judge = judge_and_say
            campaign = Campaign(study, self.laboratory(), environment=ENVIRONMENT)
            campaign.run(ROUNDS, VARIANTS, self.seed)
            campaign.confirm()

    def fork(self) -> tuple[int, int]:
        """A process of its own at work on the study: its id, and where it says what was answered."""
        reader, writer = os.pipe()
        child = os.fork()
        if child:
            os.close(writer)
            return child, reader
        status = 1
        try:
            os.close(reader)
            self.work(lambda text: os.write(writer, f"{text}\n".encode()))
            status = 0
        except BaseException as error:
            os.write(2, f"kills: the study failed: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)


@dataclass
class Report:
    kills: int = 0
    idle: int = 0  # of them before anything was written
    studies: int = 0
    rows: int = 0
    wrong: list[str] = field(default_factory=list)
    died_in: collections.Counter = field(
        default_factory=collections.Counter
    )  # what the killed process had begun and not ended


def rows_of(path: pathlib.Path) -> dict[str, set[tuple]]:
    """Every row of every table. Opening it recovers what a kill left in the log."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        return {name: set(connection.execute(f"SELECT * FROM {name}")) for name in names}


def look(path: pathlib.Path, before: dict[str, set[tuple]], said: list[str], wrong: list[str]) -> dict[str, set[tuple]]:
    """What is wrong with the ledger after a kill goes to `wrong`; returns its rows."""
    with Ledger.open(path) as ledger:
        wrong += ledger.check()
    now = rows_of(path)
    for table, rows in before.items():
        if lost := rows - now.get(table, set()):
            wrong.append(f"lost of {table}: {sorted(lost, key=str)[:2]}")
    verdicts = {(row[0], row[1]) for row in now.get("verdict", ())}
    for line in said:
        proposal, gate = line.split()
        if (int(proposal), gate) not in verdicts:
            wrong.append(f"the verdict of {gate} on proposal {proposal} was answered for and is not there")
    runs = [row[6] for row in now.get("verdict", ()) if row[6] is not None]
    if len(runs) != len(set(runs)):
        wrong.append("two verdicts stand on one run")
    ended = {row[0]: row[2] for row in now.get("run_end", ())}
    wrong += [
        f"a verdict stands on run {run}, which is {ended.get(run, 'without end')}"
        for run in runs
        if ended.get(run) != "done"
    ]
    return now


def story(path: pathlib.Path) -> dict:
    """A study without times and ids of runs: proposals, verdicts, frontier, confirmations."""
    with Ledger.open(path) as ledger:
        study = Study.open(ledger, "killed")
        campaign = Campaign(study, NullLaboratory(Workload()), environment=ENVIRONMENT)
        return {
            "proposals": [(one.id, one.round, one.slot, one.flow_hash, one.parents, one.hypothesis) for one in study.proposals()],
            "verdicts": {(id, gate): (one.status, one.reason, json.dumps(one.facts, sort_keys=True)) for id, gates in study.verdicts().items()
                         for gate, one in gates.items()},
            "frontier": [point.to_json() for point in campaign.points()],
            "confirmed": [vars(one) for one in campaign.confirmed()],
            "gains": {(one.flow_hash, gate): study.gains(verdict.run) for one in study.proposals()
                      for gate, verdict in study.verdicts().get(one.id, {}).items() if verdict.run and gate in ("screen", "gate")},
            "open": [one.id for one in study.proposals() if study.next_gate(study.verdicts().get(one.id, {})) is not None],
        }  # fmt: skip


def kill_until_done(subject: Subject, rng: random.Random, longest: float, most: int, report: Report) -> bool:
    """Kills the study's process after up to `longest` seconds each time, at most `most` times, then lets it end. Whether it was ended. A
    process that is killed before it has written anything has twice the time next: a busy machine would kill it for ever at the same place."""
    before: dict[str, set[tuple]] = {}
    usual = longest
    for left in range(most, -1, -1):
        child, reader = subject.fork()
        deadline = time.monotonic() + (rng.uniform(0, longest) if left else 600)
        while time.monotonic() < deadline:
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                break
            time.sleep(0.002 if left else 0.05)
        else:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        with open(reader) as file:
            said = [line for line in file.read().split("\n") if len(line.split()) == 2]
        rows = sum(map(len, before.values()))
        if subject.path.exists():
            before = look(subject.path, before, said, report.wrong)
            report.rows = max(report.rows, sum(map(len, before.values())))
        wrote = sum(map(len, before.values())) > rows
        longest = usual if wrote else 2 * longest
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                report.wrong.append("a study that was started again did not go on by itself")
            return os.WEXITSTATUS(status) == 0
        report.kills += 1
        report.idle += not wrote
        ends = {row[0] for row in before.get("run_end", ())}
        begun = [row for row in before.get("run", ()) if row[0] not in ends and row[9] == child]
        report.died_in[begun[0][2] if begun else "between two gates"] += 1
    report.wrong.append("the study did not end")
    return False


def run(
    evaluator: str, kills: int, seed: int, folder: pathlib.Path, say=lambda text: None, longest: float = 0.0
) -> Report:
    """Studies of three seeds in turn until `kills` kills were made. longest: seconds to a kill; 0: a third of what a study takes."""
    report, rng, whole, took = Report(), random.Random(seed), {}, {}
    model = ""
    if evaluator == "tiny":
        from reference.random_model import random_llama

        model = str(random_llama(folder / "tiny.gguf", context=2048))
    while report.kills < kills and not report.wrong:
        number = report.studies % 3
        if number not in whole:
            alone = Subject(evaluator, number, folder / f"alone{number}.sqlite", model)
            began = time.monotonic()
            if not kill_until_done(alone, rng, 0, 0, report):
                break
            took[number], whole[number] = time.monotonic() - began, story(alone.path)
        subject = Subject(evaluator, number, folder / f"study{report.studies}.sqlite", model)
        most, began = kills - report.kills, time.monotonic()
        if not kill_until_done(subject, rng, longest or took[number] / 3, most, report):
            break
        took[number] = min(
            took[number], time.monotonic() - began
        )  # a machine that was busy for the first would let the others live
        report.studies += 1
        compare(evaluator, story(subject.path), whole[number], report.wrong)
        rows = rows_of(subject.path)
        subject.work()  # once more: there is nothing left to do
        if rows_of(subject.path) != rows:
            report.wrong.append("a study that had ended went on")
        for file in folder.glob(f"study{report.studies - 1}.sqlite*"):
            file.unlink()
        say(f"{report.kills} of {kills} kills, {report.studies} studies, {len(report.wrong)} wrong")
    return report


def compare(evaluator: str, found: dict, whole: dict, wrong: list[str]) -> None:
    if found["open"]:
        wrong.append(f"proposals {found['open']} were left open")
    if evaluator == "null":
        wrong += [
            f"{what} differ from those of the study that nobody disturbed"
            for what in whole
            if found[what] != whole[what]
        ]
        return
    # Speeds are measured, so proposals may differ; what one flow was measured at may not.
    both = found["gains"].keys() & whole["gains"].keys()
    if len(both) < 8:
        wrong.append(f"only {len(both)} measurements in common with the study that nobody disturbed")
    wrong += [f"other accuracy of {key}" for key in both if found["gains"][key] != whole["gains"][key]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--evaluator", choices=("null", "tiny"), default="null")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path, help="where the ledgers lie; a temporary one if left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        report = run(
            arguments.evaluator,
            arguments.kills,
            arguments.seed,
            folder,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    print(f"seed {arguments.seed}: {report.kills} kills ({report.idle} before anything was written) of {report.studies} studies in {time.monotonic() - began:.0f} s; at most {report.rows} rows; "
          f"they died in: {', '.join(f'{what} {count}' for what, count in report.died_in.most_common())}")  # fmt: skip
    for wrong in report.wrong:
        print(f"wrong: {wrong}")
    print(
        "nothing was lost, nothing was there twice, every study came to its end"
        if not report.wrong
        else f"{len(report.wrong)} things were wrong"
    )
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
