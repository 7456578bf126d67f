"""Eight agents at once on one study: half flood it with submissions, half hand in one at a time and think, all spend tokens. Two workers serve
them by the null evaluator, which takes its time, and one of them is killed every so often. In the end everything asked for must be answered,
those who flood must have had equal shares, those who do not must have waited no longer, and every account must be what its agent counted.

usage: clients.py [--minutes 30] [--clients 8] [--pause 0.3] [--kill-every 60] [--seed 1]
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))

from vortex_attention.discover.laboratory import Workload  # noqa: E402
from vortex_attention.discover.null import NullLaboratory  # noqa: E402
from vortex_attention.discover.queue import Queue  # noqa: E402
from vortex_attention.discover.study import Draft, Study  # noqa: E402
from vortex_attention.discover.worker import Worker  # noqa: E402
from vortex_attention.flows import ready  # noqa: E402
from vortex_attention.ledger import Ledger  # noqa: E402

BASES = ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means", "value_norm")
FLOOD = 6  # submissions of a flooding agent that wait at any time
ENVIRONMENT = {"device": "clients", "commit": "0", "dirty": False}


class Slow(NullLaboratory):
    """The null evaluator at the pace of a device, which one process has at a time. pause: seconds of a part of a gate."""

    timing = True

    def __init__(self, workload: Workload, pause: float):
        super().__init__(workload)
        self.pause = pause

    def accuracy(self, program, part, seed=0):
        time.sleep(self.pause)
        yield from super().accuracy(program, part, seed)

    def speed(self, program, rounds, seed=0, rival=None):
        time.sleep(self.pause)
        yield from super().speed(program, rounds, seed, rival)


@dataclass
class Report:
    gates: int = 0
    proposals: int = 0
    kills: int = 0
    served: dict[str, int] = field(default_factory=dict)  # gates, by agent, while all were asking
    waited: dict[str, float] = field(default_factory=dict)  # median seconds from submission to answer, by agent
    wrong: list[str] = field(default_factory=list)


def open_study(ledger: Ledger) -> Study:
    return Study.open(ledger, "clients", {"evaluator": "null"})


def flow_of(rng: random.Random):
    """Some flow; two agents may well come upon the same one."""
    settings = {"budget": rng.randrange(5, 100), "sinks": rng.randrange(1, 5), "recent": rng.randrange(1, 4)}
    return ready(rng.choice(BASES)).with_settings({name: str(value) for name, value in settings.items()})


def client(path: pathlib.Path, name: str, floods: bool, until: float, seed: int) -> None:
    """Hands in until the time is over, then waits for all it asked for; writes down what it counted."""
    rng = random.Random(seed)
    counted = collections.Counter()
    asked: dict[int, float] = {}
    waited: list[float] = []
    with Ledger.open(path) as ledger:
        study = open_study(ledger)
        queue = Queue(study)
        while time.time() < until or asked:
            if time.time() < until and len(asked) < (FLOOD if floods else 1):
                (proposal,) = study.propose(
                    name, [Draft(flow_of(rng), "a source", f"hypothesis {counted['proposals']} of {name}")]
                )
                counted["proposals"] += 1
                queue.submit(name, proposal.id, "bench")
                counted["submissions"] += 1
                asked[proposal.id] = time.time()
                tokens = rng.randrange(1, 5000)
                queue.spend(name, "tokens_out", tokens, proposal.id)
                counted["tokens_out"] += tokens
            for id in list(asked):
                gates = {
                    row["gate"]: row["status"]
                    for row in ledger.rows("SELECT gate, status FROM verdict WHERE proposal = ?", (id,))
                }
                if "bench" in gates or any(status != "passed" for status in gates.values()):
                    waited.append(time.time() - asked.pop(id))
                    last = next((status for status in gates.values() if status != "passed"), "passed")
                    counted[last] += 1
            time.sleep(rng.uniform(0.1, 0.3) if floods else rng.uniform(0.2, 1.5))
    path.with_name(f"{name}.json").write_text(json.dumps({"counted": counted, "waited": waited}))


def worker(path: pathlib.Path, pause: float) -> None:
    with Ledger.open(path) as ledger:
        Worker(open_study(ledger), Slow(Workload(screen_items=4, gate_items=8), pause), environment=ENVIRONMENT).run()


def started(what, *arguments) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        what(*arguments)
        status = 0
    except BaseException as error:
        os.write(2, f"clients: {what.__name__} failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def run(
    folder: pathlib.Path,
    *,
    seconds: float,
    clients: int,
    pause: float,
    kill_every: float,
    seed: int,
    say=lambda text: None,
) -> Report:
    path, rng, report = folder / "ledger.sqlite", random.Random(seed), Report()
    with Ledger.open(path) as ledger:
        open_study(ledger)
    began = time.time()
    until = began + seconds
    names = [f"{'flood' if index % 2 else 'calm'}-{index}" for index in range(clients)]
    agents = {
        started(client, path, name, name.startswith("flood"), until, seed * 1000 + index): name
        for index, name in enumerate(names)
    }
    workers = [started(worker, path, pause) for _ in range(2)]
    next_kill, next_word = began + kill_every, began + 30
    patience = until + 120 + clients * FLOOD * 4 * 4 * pause
    while agents and time.time() < patience:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in agents:
            name = agents.pop(child)
            if status:
                report.wrong.append(f"agent {name} ended with status {status}")
        elif child in workers:
            report.wrong.append(f"a worker ended by itself with status {status}")
            workers.remove(child)
        if time.time() >= next_kill and workers:
            victim = rng.choice(workers)
            workers.remove(victim)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            report.kills += 1
            workers.append(started(worker, path, pause))
            next_kill += kill_every
        if time.time() >= next_word:
            say(f"{time.time() - began:.0f} s, {len(agents)} agents, {report.kills} workers killed")
            next_word += 60
        time.sleep(0.05)
    for child in [*workers, *agents]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    report.wrong += [f"agent {name} waits for ever" for name in agents.values()]
    look(path, names, until, report)
    return report


def look(path: pathlib.Path, names: list[str], until: float, report: Report) -> None:
    with Ledger.open(path) as ledger:
        study = open_study(ledger)
        queue = Queue(study)
        report.wrong += ledger.check()
        if waiting := queue.waiting(busy=True):
            report.wrong.append(f"{len(waiting)} submissions were left waiting")
        accounts = {account.agent: account for account in queue.accounts()}
        verdicts = ledger.rows(
            "SELECT p.author, v.gate, v.status, v.seconds, v.at, v.run FROM verdict v JOIN proposal p ON p.id = v.proposal"
        )
        runs = [row["run"] for row in verdicts if row["run"]]
    report.proposals, report.gates = (
        sum(account.proposals for account in accounts.values()),
        sum(row["status"] != "answered" for row in verdicts),
    )
    if len(runs) != len(set(runs)):
        report.wrong.append("two verdicts stand on one run")
    for name in names:
        said = (
            json.loads(path.with_name(f"{name}.json").read_text()) if path.with_name(f"{name}.json").exists() else None
        )
        if said is None or name not in accounts:
            report.wrong.append(f"agent {name} has no account, or did not end")
            continue
        counted, account = said["counted"], accounts[name]
        found = {
            "proposals": account.proposals,
            "submissions": account.submissions,
            "tokens_out": account.spent.get("tokens_out", 0),
            **account.by_status,
        }
        if {key: value for key, value in found.items() if value} != counted:
            report.wrong.append(f"the account of {name} says {found}, it counted {counted}")
        paid = collections.Counter()
        for row in verdicts:
            if row["author"] == name:
                paid[row["gate"]] += row["seconds"]
        if any(
            abs(account.seconds.get(gate, 0.0) - seconds) > 1e-9 * max(1.0, seconds) for gate, seconds in paid.items()
        ):
            report.wrong.append(f"the account of {name} has seconds {account.seconds}, its verdicts {dict(paid)}")
        report.waited[name] = round(statistics.median(said["waited"]), 2) if said["waited"] else 0.0
    limit = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until))
    report.served = {
        name: sum(row["author"] == name and row["status"] != "answered" and row["at"] < limit for row in verdicts)
        for name in names
    }
    flooding = [count for name, count in report.served.items() if name.startswith("flood")]
    # A turn is a gate, so those who always ask are served alike, but for a turn or two of a worker that was killed.
    if flooding and max(flooding) - min(flooding) > max(4 + 2 * report.kills, 0.05 * max(flooding)):
        report.wrong.append(f"unequal shares: {report.served}")
    calm = [wait for name, wait in report.waited.items() if name.startswith("calm")]
    flood = [wait for name, wait in report.waited.items() if name.startswith("flood")]
    if calm and flood and statistics.median(calm) > statistics.median(flood):
        report.wrong.append(f"those who ask for little wait longer: {report.waited}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("minutes", 30.0), ("pause", 0.3), ("kill-every", 60.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, default in (("clients", 8), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(pathlib.Path(folder), seconds=60 * arguments.minutes, clients=arguments.clients, pause=arguments.pause,
                     kill_every=arguments.kill_every, seed=arguments.seed, say=lambda text: print(text, file=sys.stderr, flush=True))  # fmt: skip
    print(f"seed {arguments.seed}: {arguments.clients} agents for {arguments.minutes:g} minutes, {report.proposals} proposals, {report.gates} gates, "
          f"{report.kills} workers killed\ngates served: {report.served}\nmedian seconds to an answer: {report.waited}")  # fmt: skip
    for wrong in report.wrong:
        print(f"wrong: {wrong}")
    print("no deadlock, fair shares, exact accounts" if not report.wrong else f"{len(report.wrong)} things were wrong")
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
