"""What the methods of a flow are given: page, seq and layer. Their attributes are the sources of the op table by name:
page_index is page.index, seq_tokens is seq.tokens."""

import numbers

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.language import place
from vortex_attention.language.value import SOURCES, State, Trace, Value


def _sources(owner: str, phase: str) -> dict[str, str]:
    """Attribute → op of what an owner offers in a phase."""
    prefix = owner + "_"
    return {
        name[len(prefix) :]: name
        for name, op in SOURCES.items()
        if name.startswith(prefix) and op["phase"] in (phase, "any") and not op["attributes"]
    }


class Owner:
    """seq and layer: read only."""

    def __init__(self, trace: Trace, name: str, phase: str, method: str | None = None):
        self.__dict__.update(_trace=trace, _name=name, _phase=method or phase, _known=_sources(name, phase))

    def __getattr__(self, name: str):
        if name in self._known:
            return self._trace.source(self._known[name])
        self._unknown(name, list(self._known))

    def __setattr__(self, name: str, value):
        raise UserError(
            place.text(),
            f"{self._name} cannot be changed",
            f"an assignment to {self._name}.{name}",
            "use a variable of your own",
        )

    def _unknown(self, name: str, known: list[str]):
        spoken = [f"{self._name}.{other}" for other in known]
        near = _core.nearest_name(name, known)
        raise UserError(
            place.text(),
            f"{self._phase} knows {', '.join(spoken)}",
            f"{self._name}.{name}",
            f"did you mean {self._name}.{near}?" if near else self._advice(name),
        )

    def _advice(self, name: str) -> str:
        return "use one of them"


def _keep(trace: Trace, op: str, owner: str, name, initial, axes: tuple, sizes: dict) -> State:
    """The state `name`, from a page or a sequence: axes by name, "head", or name and size, sub=4."""
    where = f"{owner}.keep(name, initial, axes...)"
    if not isinstance(name, str):
        raise UserError(
            place.text(),
            f"{where} takes a name",
            f"{type(name).__name__} {name!r}"[:80],
            f'say {owner}.keep("acc", 0.0)',
        )
    if isinstance(initial, bool) or not isinstance(initial, numbers.Real):
        came = f"a value {initial.type}" if isinstance(initial, Value) else f"{type(initial).__name__} {initial!r}"[:80]
        raise UserError(
            place.text(),
            f"{where} takes a plain number as the initial value",
            came,
            "what differs from page to page is set in the first step",
        )
    words = [str(axis) for axis in axes] + [f"{axis}={size}" for axis, size in sizes.items()]
    return trace.source(op, of=State, name=name, initial=float(initial), axes=", ".join(words))


class SeqOwner(Owner):
    """The sequence while its pages are scored: read only, and what is kept of it from step to step."""

    def keep(self, name, initial=0.0, *axes, **sizes):
        return _keep(self._trace, "seq_state", "seq", name, initial, axes, sizes)


class SummarizePage(Owner):
    """The page while it is summarized: k and v, and every assignment declares a summary."""

    def __init__(self, trace: Trace):
        super().__init__(trace, "page", "summarize")
        self.__dict__["_summaries"] = {}  # name → (value, file, line)

    def keep(self, *_, **__):
        raise UserError(
            place.text(),
            "page.keep exists in score and select: state advances in every step",
            "summarize, which runs once",
            "what a page is remembered by is a summary: page.name = value",
        )

    def __getattr__(self, name: str):
        if name in self._summaries:
            return self._summaries[name][0]
        if name in _sources("page", "score") and name not in self._known:
            raise UserError(
                place.text(),
                f"page.{name} exists in score",
                "summarize",
                "a summary is made from page.k and page.v alone",
            )
        return super().__getattr__(name)

    def __setattr__(self, name: str, value):
        if name in self._known or name in _sources("page", "score") or name == "keep":
            raise UserError(place.text(), "a summary has a name of its own", f"page.{name}", "choose another name")
        self._summaries[name] = (self._trace.value(value, f"page.{name}"), *place.here())

    def declare(self):
        for name, (value, file, line) in self._summaries.items():
            self._trace.tracer.summarize(name, value._id, file, line)


class ScorePage(Owner):
    """The page while it is scored: its summaries and its index."""

    def __init__(self, trace: Trace, summaries: list[str]):
        super().__init__(trace, "page", "score")
        self.__dict__["_names"] = summaries

    def keep(self, name, initial=0.0, *axes, **sizes):
        if name in self._names:
            raise UserError(
                place.text(), "a state has a name of its own", f"page.{name}, a summary", "choose another name"
            )
        return _keep(self._trace, "page_state", "page", name, initial, axes, sizes)

    def __getattr__(self, name: str):
        if name in self._names:
            return self._trace.source("summary", name=name)
        if name in _sources("page", "summarize") and name not in self._known:
            raise UserError(
                place.text(),
                f"page.{name} exists in summarize",
                "score, which runs every step and does not read whole pages",
                f'store what you need of it: in summarize, page.name = page.{name}.mean("token") or the like',
            )
        if name in self._known:
            return super().__getattr__(name)
        self._unknown(name, self._names + list(self._known))

    def _advice(self, name: str) -> str:
        return f'use one of them; what is carried from step to step is page.keep("{name}", 0.0)'

    def __setattr__(self, name: str, value):
        raise UserError(
            place.text(),
            "a summary is declared in summarize",
            f"an assignment to page.{name} in score",
            "move it to summarize, or use a variable of your own",
        )
