"""The gates a proposal passes, cheap first. Each measures through a laboratory, hands its numbers to the ledger, and says a verdict with
its reason. Looks within a gate only ever stop losers, so no error rate is spent on them. Refuses nothing for being unusual.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import _core
from ..errors import UserError
from ..ledger import Block as TimedBlock
from ..ledger import Ledger, Outcome, canonical_json
from ..measure.provenance import provenance
from ..measure.statistics import Interval, mean_interval, ratio_interval
from . import honesty, mutate
from .study import FAILED, PASSED, QUARANTINED, Verdict


TO_BEAT = "to beat: "  # begins the name of the arm that a flow is timed beside
BESIDE = 4  # rounds beside a flow to beat for each beside full attention: they take a third of the time, and decide


@dataclass(frozen=True)
class Limits:
    """Where the gates stop. In nat a token of the answer beside full attention, and times full attention's speed."""

    screen_gain: float = -1.0  # a flow whose mean on the screen's items is below goes no further
    gate_gain: float = -0.5  # a flow whose upper bound of the mean (97.5 %) is below is stopped
    ratio: float = 1.0  # a flow whose upper bound of the ratio is below is stopped
    ceiling: float = 1.1  # a ratio above the speed-up that its bytes allow, times this, is put into quarantine
    need: float = 0.5  # nat that a flow which looks at nothing must lose on the screen's items


class Gates:
    """gates(name, program, seed, rivals) → Verdict. rivals: of a confirmation, flows that this one is timed beside as well."""

    def __init__(
        self,
        laboratory,
        ledger: Ledger,
        limits: Limits = Limits(),
        environment: dict | None = None,
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    ):
        """progress(what, done, of) is told of items and rounds of blocks. environment: that runs record; None: what the laboratory says of
        its device, else this machine's."""
        environment = getattr(laboratory, "environment", None) if environment is None else environment
        environment = provenance() if environment is None else environment
        self.laboratory, self.ledger, self.limits, self.environment, self.progress = (
            laboratory,
            ledger,
            limits,
            environment,
            progress,
        )

    def __call__(
        self, gate: str, program: _core.Program, seed: int = 0, rivals: Sequence[_core.Program] = ()
    ) -> Verdict:
        began = time.perf_counter()
        more = (rivals,) if gate == "confirm" else ()
        status, reason, run, facts = getattr(self, f"_{gate}")(program, seed, *more)
        return Verdict(gate, status, reason, time.perf_counter() - began, run, facts)

    def prepare(self, gate: str) -> None:
        """Before a proposal meets the gate: UserError when its items could tell nothing apart. That is no fault of the proposal."""
        if gate != "check":
            self.laboratory.require_need(self.limits.need)

    def _check(self, program: _core.Program, seed: int) -> tuple:
        try:
            mutate.fits(program, self.laboratory.geometry)
            price = self.laboratory.price(program)
        except UserError as error:
            return FAILED, str(error), None, {}
        if why := honesty.hidden_work(program, self.laboratory.workload.steps) or honesty.no_promise(program, price):
            return FAILED, why, None, price
        return (
            PASSED,
            f"{price['score_bytes'] / 1e6:.1f} MB to score a step, {price['attend_bytes'] / 1e6:.1f} MB to attend",
            None,
            price,
        )

    def _screen(self, program: _core.Program, seed: int) -> tuple:
        gains, kls, run = self._items(program, "screen", 0, stop=lambda gain: None)
        facts = {
            "gain": mean_interval(gains).center,
            "kl": mean_interval(kls).center,
            "behaviour": self.laboratory.behaviour(program),
        }
        said = f"{facts['gain']:+.2f} nat and KL {facts['kl']:.3f} on {len(gains)} items"
        if facts["gain"] < self.limits.screen_gain:
            return FAILED, f"{said}; {self.limits.screen_gain:+.2f} nat is required", run, facts
        return PASSED, said, run, facts

    def _gate(self, program: _core.Program, seed: int) -> tuple:
        def stop(gain: Interval) -> str | None:
            return (
                None
                if gain.high >= self.limits.gate_gain
                else f"stopped: at most {gain.high:+.2f} nat, {self.limits.gate_gain:+.2f} are required"
            )

        gains, kls, run = self._items(program, "gate", 0, stop)
        gain = mean_interval(gains)
        facts = {"gain": gain.to_json(), "kl": mean_interval(kls).center, "items": len(gains)}
        reason = stop(gain) if len(gains) > 1 else None
        return (
            (FAILED if reason else PASSED),
            reason or f"{gain.center:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] nat on {len(gains)} items",
            run,
            facts,
        )

    def _bench(self, program: _core.Program, seed: int) -> tuple:
        return self._speed(program, self.laboratory.workload.rounds, 0)

    def _confirm(self, program: _core.Program, seed: int, rivals: Sequence[_core.Program]) -> tuple:
        """Items and blocks that no gate has shown, by the seed; passed says that they were measured, not that it is good."""
        timed: list[tuple[Interval, honesty.Reading]] = []
        rounds = self.laboratory.workload.confirm_rounds

        def time_it(run, arms: dict) -> None:
            timed.append(self._blocks(program, run, arms, rounds, seed))
            timed.extend(self._blocks(program, run, arms, BESIDE * rounds, seed, rival) for rival in rivals)

        gains, kls, run = self._items(
            program,
            "confirm",
            seed,
            stop=lambda gain: None,
            then=time_it,
        )
        gain = mean_interval(gains)
        facts = {
            "gain": gain.to_json(),
            "kl": mean_interval(kls).center,
            "items": len(gains),
            "ratio": timed[0][0].to_json(),
        }
        if rivals:
            facts["beside"] = {rival.hash: ratio.to_json() for rival, (ratio, _) in zip(rivals, timed[1:])}
        said = "".join(
            f"; {ratio.center:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] times {rival.name}"
            for rival, (ratio, _) in zip(rivals, timed[1:])
        )
        if self._scores:
            lost = mean_interval([100 * (flow - full) for full, flow in self._scores])
            full, flow = (100 * sum(side) / len(side) for side in zip(*self._scores))
            facts["score"] = {"full": full, "flow": flow, "difference": lost.to_json()}
            said += f"; RULER {flow:.1f}, full attention {full:.1f}: {lost.center:+.1f} [{lost.low:+.1f}, {lost.high:+.1f}] points"
        if why := self._distrust(program, "confirm", seed, *timed[0]):
            return QUARANTINED, why, run, facts
        return (
            PASSED,
            f"{gain.center:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] nat on {len(gains)} items that nobody saw{said}",
            run,
            facts,
        )

    # Measuring into the ledger

    def _run(self, kind: str, part: str, seed: int):
        name, sha256 = self.laboratory.model
        return self.ledger.run(
            kind,
            suite=f"discover {part}",
            model=name,
            model_sha256=sha256,
            numerics=self.laboratory.numerics,
            settings=self._settings(part, seed),
            environment=self.environment,
        )

    def _settings(self, part: str, seed: int) -> dict:
        return {"part": part, "seed": seed, "workload": self.laboratory.workload.to_json()}

    def _items(
        self,
        program: _core.Program,
        part: str,
        seed: int,
        stop: Callable[[Interval], str | None],
        then: Callable | None = None,
    ) -> tuple[list[float], list[float], str]:
        gains: list[float] = []
        kls: list[float] = []
        self._scores: list[tuple[float, float]] = []  # RULER's, of full attention's and the flow's own answers
        with self._run("accuracy", part, seed) as run:
            arms = _arms(run, program)
            count = getattr(self.laboratory.workload, f"{part}_items")
            self.progress(f"{part}, items", 0, count)
            for batch in self.laboratory.accuracy(program, part, seed):
                run.add_outcomes(
                    [
                        (arms[side], result.name, _outcome(getattr(result, side), score), None)
                        for result in batch
                        for side, score in zip(("full", "flow"), result.scores or (None, None))
                    ]
                )
                gains += [result.flow.log_probability - result.full.log_probability for result in batch]
                kls += [result.flow.kl for result in batch]
                self._scores += [result.scores for result in batch if result.scores is not None]
                self.progress(f"{part}, items", len(gains), count)
                if len(gains) > 1 and stop(mean_interval(gains)):
                    break
            if then:
                then(run, arms)
        return gains, kls, run.id

    def _speed(self, program: _core.Program, rounds: int, seed: int) -> tuple:
        with self._run("speed", "bench", seed) as run:
            arms = _arms(run, program)
            ratio, read = self._blocks(program, run, arms, rounds, seed)
        facts = {"ratio": ratio.to_json(), "attended_tokens": read.tokens}
        said = f"{ratio.center:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times full attention"
        if why := self._distrust(program, "gate", 0, ratio, read):
            return QUARANTINED, why, run.id, facts
        if why := honesty.reads_all(read):
            return FAILED, why, run.id, facts
        if ratio.high < self.limits.ratio:
            return FAILED, f"{said}, {self.limits.ratio:.2f} is required", run.id, facts
        return PASSED, said, run.id, facts

    def _distrust(self, program: _core.Program, part: str, seed: int, ratio: Interval, read: honesty.Reading) -> str:
        """Why a speed is not believed, or is not that of what the items of `part` were answered with."""
        promised = honesty.speed_limit(self.laboratory.price(program), read) * self.limits.ceiling
        if ratio.low > promised:
            return (
                f"{ratio.center:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times full attention, "
                f"more than the {promised:.2f} that its bytes allow"
            )
        answered = self._reading(program, part, seed)
        return honesty.two_faced(answered, read, program.config.page_size) if answered else ""

    def _reading(self, program: _core.Program, part: str, seed: int) -> honesty.Reading | None:
        """Of the latest finished run of this flow over these items of `part` that nobody took back; None where there is none."""
        rows = self.ledger.rows(
            "SELECT a.run, a.role, avg(json_extract(o.observed, '$.attended_tokens')) AS tokens FROM outcome o JOIN arm a ON a.id = o.arm "
            "WHERE a.run = (SELECT r.id FROM run r JOIN arm b ON b.run = r.id JOIN run_end e ON e.run = r.id WHERE b.flow_hash = ? AND r.settings = ? "
            "AND r.numerics = ? AND e.status = 'done' AND r.id NOT IN (SELECT run FROM retraction) "
            "ORDER BY r.began DESC, r.rowid DESC LIMIT 1) GROUP BY a.role",
            (program.hash, canonical_json(self._settings(part, seed)), self.laboratory.numerics),
        )
        tokens = {row["role"]: row["tokens"] for row in rows}
        return honesty.Reading(tokens["flow"], tokens["full"]) if {"flow", "full"} <= set(tokens) else None

    def _blocks(
        self, program: _core.Program, run, arms: dict, rounds: int, seed: int, rival: _core.Program | None = None
    ) -> tuple[Interval, honesty.Reading]:
        """Rounds beside full attention, or beside a rival: its time over the flow's, and what the flow attended."""
        ends = arms["full"] if rival is None else run.arm(f"{TO_BEAT}{rival.name} {rival.hash[:12]}", rival)
        slow, fast = [], []
        reads: list[honesty.Reading] = []
        load = f"{self.laboratory.workload.batch}x{self.laboratory.workload.context}"
        what = "blocks" if rival is None else f"blocks beside {rival.name}"
        self.progress(what, 0, rounds)
        beside = () if rival is None else (rival,)
        for number, quartet in enumerate(self.laboratory.speed(program, rounds, seed, *beside)):
            sides = ((ends, arms["flow"]), (arms["flow"], ends), (arms["flow"], ends), (ends, arms["flow"]))
            run.add_blocks(
                [
                    (side, TimedBlock(load, number, position, block.seconds, other.name, block.observed()))
                    for position, ((side, other), block) in enumerate(zip(sides, quartet))
                ]
            )
            self.progress(what, number + 1, rounds)
            slow.append(quartet[0].seconds + quartet[3].seconds)
            fast.append(quartet[1].seconds + quartet[2].seconds)
            reads += [self.laboratory.read(block) for block in quartet[1:3]]
        tokens = sum(read.tokens for read in reads) / len(reads)
        return ratio_interval(slow, fast), honesty.Reading(tokens, reads[0].of)


def _arms(run, program: _core.Program) -> dict:
    """Full attention's and the flow's, whatever that calls itself."""
    taken = program.name in ("", "full") or program.name.startswith(TO_BEAT)
    name = "flow" if taken else program.name
    return {"full": run.arm("full"), "flow": run.arm(name, program)}


def _outcome(outcome, score: float | None) -> Outcome:
    scores = dict(vars(outcome)) | ({} if score is None else {"score": score})
    return Outcome(scores, {"attended_tokens": scores.pop("attended_tokens")})
