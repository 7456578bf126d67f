"""Settings and numbers alone: the structure of a flow stays, what it is set to is searched.

Samplers: `edits` draws a random edit of a setting or a number; `tpe` (Bergstra et al., 2011) and `nsga2` (Deb et al., 2002) are optuna's, told of
every measured proposal of the same structure, with accuracy and speed as the two objectives. Deterministic given the seed and what was
measured.
"""

from __future__ import annotations

import math
import random

from ... import _core
from ...errors import UserError
from .. import edits
from ..archive import Known, known
from ..frontier import Point
from ..graph import Graph
from ..mutate import fits, vary
from ..study import Draft, Study

SAMPLERS = ("edits", "tpe", "nsga2")
EDITS = (
    "budget",
    "pinned",
    "constant",
    "weight",
    "temperature",
    "coarser",
    "slow_channels",
    "nucleus",
    "page_size",
    "full_layers",
    "reuse",
    "refresh",
    "amount",
)
WORST = -3.0  # nat, told of a proposal that was stopped before it was measured
STARTUP = 4  # trials of a structure that are drawn at random


class Knobs:
    author = "knobs"

    def __init__(self, seed: int, sampler: str = "edits"):
        if sampler not in SAMPLERS:
            raise UserError("--knobs", f"one of {', '.join(SAMPLERS)}", repr(sampler), "leave it out for edits")
        if sampler != "edits":
            _optuna()
        self.seed, self.sampler = seed, sampler

    def drafts(self, study: Study, points: list[Point], laboratory, round: int, variants: int) -> list[Draft]:
        now, made = known(study, points), []
        hashes = set(now.hashes)
        for slot in range(variants):
            draft = self.draft(
                now, laboratory, random.Random(f"{self.seed} {round} {slot}"), hashes, f"r{round}_{slot}"
            )
            if draft is not None:
                hashes.add(draft.program.hash)
                made.append(draft)
        return made

    def draft(self, now: Known, laboratory, rng: random.Random, hashes: set[str], name: str) -> Draft | None:
        """One proposal, of a flow of the frontier."""
        if not now.standing:
            return None
        front = now.frontier()
        parent, program = rng.choices(front, [now.worth(proposal.id) + 0.02 for proposal, _ in front])[0]
        if self.sampler == "edits":
            allowed = [edit for edit in edits.EDITS if edit.name in EDITS]
            variant = vary(program, rng, laboratory.geometry, known=hashes, name=name, tries=100, allowed=allowed)
            found, said = (variant.program, variant.described) if variant else (None, "")
        else:
            found, said = self._asked(now, program, laboratory, rng, hashes, name)
        if found is None:
            return None
        return Draft(
            found,
            found.text(),
            f"knobs of {parent.id} ({program.name}): {said}; expected better at something than it",
            (parent.id,),
        )

    def _asked(
        self, now: Known, program: _core.Program, laboratory, rng: random.Random, hashes: set[str], name: str
    ) -> tuple:
        optuna = _optuna()
        seed = rng.randrange(1 << 31)
        sampler = (
            optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True)
            if self.sampler == "tpe"
            else optuna.samplers.NSGAIISampler(seed=seed, population_size=8)
        )
        search = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
        space = _space(Graph.of(program))
        distributions = {knob: _distribution(optuna, knob, value) for knob, value in space.items()}
        for id, other in sorted(now.programs.items()):
            values = _space(Graph.of(other)) if _shape(other) == _shape(program) else {}
            if values.keys() == space.keys() and all(
                distributions[knob]._contains(distributions[knob].to_internal_repr(value))
                for knob, value in values.items()
            ):
                search.add_trial(
                    optuna.trial.create_trial(params=values, distributions=distributions, values=_objectives(now, id))
                )
        for _ in range(20):
            trial = search.ask(distributions)
            graph = _set(Graph.of(program), trial.params)
            graph.name = name
            try:
                made = graph.build()
                fits(made, laboratory.geometry)
            except UserError:
                search.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            if made.hash not in hashes:
                changed = [f"{knob} {trial.params[knob]:g}" for knob in space if trial.params[knob] != space[knob]]
                return made, f"{self.sampler} says {', '.join(changed)}"
            search.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None, ""


def _optuna():
    try:
        import optuna
    except ImportError:
        raise UserError(
            "--knobs",
            "optuna for tpe and nsga2",
            "it is not installed",
            "pip install 'vortex-attention[search]', or leave --knobs out",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _space(graph: Graph) -> dict[str, float]:
    """What can be set, by name, as it stands: the budget, sinks, recent pages, and the live numbers in order."""
    space: dict[str, float] = {}
    if int(graph.config.get("budget", "0") or 0):
        space["budget"] = int(graph.config["budget"])
    space |= {"sinks": int(graph.config["sinks"]), "recent": int(graph.config["recent"])}
    for number, index in enumerate(_constants(graph)):
        space[f"number{number}"] = float(graph.nodes[index].attributes["value"])
    for index in sorted(graph.live()):
        if graph.nodes[index].op == "low_frequency":
            space["channels"] = float(graph.nodes[index].attributes["share"])
    return space


def _constants(graph: Graph) -> list[int]:
    """Numbers that may be any: not 0 and 1, which say yes and no."""
    return [
        index
        for index in sorted(graph.live())
        if graph.nodes[index].op == "constant"
        and graph.nodes[index].attributes["value"] not in (0.0, 1.0)
        and abs(float(graph.nodes[index].attributes["value"])) < 1e6
    ]


def _distribution(optuna, knob: str, value: float):
    """Ranges are the same for all flows of a structure, so that what is known of one tells of the others."""
    integer, real = optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution
    if knob == "budget":
        return integer(4, 256, log=True)
    if knob in ("sinks", "recent"):
        return integer(0 if knob == "recent" else 1, 8)
    if knob == "channels":
        return real(1 / 8, 1.0, step=1 / 8)
    return real(1 / 64, 512.0, log=True) if value > 0 else real(-512.0, -1 / 64)


def _set(graph: Graph, values: dict[str, float]) -> Graph:
    for name in ("budget", "sinks", "recent"):
        if name in values:
            graph.config[name] = str(int(values[name]))
    for number, index in enumerate(_constants(graph)):
        graph.nodes[index].attributes["value"] = float(f"{values[f'number{number}']:.4g}")
    for index in graph.live():
        if graph.nodes[index].op == "low_frequency" and "channels" in values:
            graph.nodes[index].attributes["share"] = values["channels"]
    return graph


def _shape(program: _core.Program) -> str:
    """The structure of a flow: its canonical hash with every knob at the same place."""
    graph = Graph.of(program)
    return _set(graph, {knob: 2.0 if knob.startswith("number") else 1 for knob in _space(graph)}).build().hash


def _objectives(now: Known, id: int) -> list[float]:
    """Gain and log speed as measured; of a proposal that was stopped early what its screen and its price said."""
    point = now.points.get(id)
    if point is not None:
        return [point.gain, math.log(max(point.ratio, 1e-6))]
    return [now.screened.get(id, WORST), math.log(max(now.predicted.get(id, 1.0), 1e-6))]
