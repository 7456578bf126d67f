"""What the methods of a flow are given: page, seq and layer. Their attributes are the sources of the op table by name:
page_index is page.index, seq_tokens is seq.tokens."""

import numbers

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.language import place
from vortex_attention.language.value import SOURCES, State, Trace, Value, _spoken


def _has_name(op: dict) -> bool:
    """States, which page.keep and seq.keep read."""
    return any(attribute["name"] == "name" for attribute in op["attributes"])


def _sources(owner: str, phase: str) -> dict[str, str]:
    """Attribute → op of what an owner offers in a phase."""
    prefix = owner + "_"
    return {
        name[len(prefix) :]: name
        for name, op in SOURCES.items()
        if name.startswith(prefix) and op["phase"] in (phase, "any") and not _has_name(op)
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
        self.__dict__["_groups"] = {}  # pages of a group → SummarizeGroup

    def group(self, pages: int) -> "SummarizeGroup":
        """A group of `pages` index-aligned pages, which may have summaries of its own, kept with its last page."""
        _check_size(pages)
        if pages not in self._groups:
            self._groups[pages] = SummarizeGroup(self._trace, pages)
        return self._groups[pages]

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
        if name in self._known or name in _sources("page", "score") or name in ("group", "where", "keep"):
            raise UserError(place.text(), "a summary has a name of its own", f"page.{name}", "choose another name")
        self._summaries[name] = (self._trace.value(value, f"page.{name}"), *place.here())

    def declare(self):
        for name, (value, file, line) in self._summaries.items():
            self._trace.tracer.summarize(name, value._id, file, line)
        for pages, group in self._groups.items():
            for name, (value, file, line) in group._summaries.items():
                self._trace.tracer.summarize(stored_name(pages, name), value._id, file, line)

    def group_names(self) -> dict[int, list[str]]:
        """The summaries of each size of group."""
        return {pages: list(group._summaries) for pages, group in self._groups.items()}


def stored_name(pages: int, name: str) -> str:
    """How the program calls the summary of a group."""
    return f"group{pages}_{name}"


def _check_size(pages):
    if isinstance(pages, bool) or not isinstance(pages, int):
        raise UserError(place.text(), "a group has a whole number of pages", repr(pages)[:80], "say page.group(8)")


class SummarizeGroup(Owner):
    """A group of pages while it is summarized: k and v of all its tokens, and every assignment declares a summary."""

    def __init__(self, trace: Trace, pages: int):
        super().__init__(trace, "group", "summarize")
        self.__dict__.update(_summaries={}, _pages=pages, _name=f"page.group({pages})")

    def __getattr__(self, name: str):
        if name in self._summaries:
            return self._summaries[name][0]
        if name in self._known:
            return self._trace.source(self._known[name], size=self._pages)
        self._unknown(name, list(self._known))

    def __setattr__(self, name: str, value):
        if name in self._known or name in ("index", "tokens", "where"):
            raise UserError(
                place.text(), "a summary has a name of its own", f"{self._name}.{name}", "choose another name"
            )
        self._summaries[name] = (self._trace.value(value, f"{self._name}.{name}"), *place.here())


class _Scored(Owner):
    """Pages or groups while they are scored: all candidates, or those of a set."""

    def __init__(self, trace: Trace, owner: str, members: Value | None):
        super().__init__(trace, owner, "score")
        self.__dict__["_members"] = members

    def _confined(self, value: Value) -> Value:
        return value if self._members is None else self._trace.apply("confine", [value._id, self._members._id], {})

    def _list(self, chosen, pages: int) -> Value:
        """The members of a set of these pages, or of the groups that hold them."""
        if not isinstance(chosen, Value):
            raise UserError(
                place.text(),
                f"{self._name}.where takes a set of pages",
                _spoken(chosen),
                "make one: vx.top_k(score, 64), vx.threshold(score, 0.5)",
            )
        held = chosen.group_pages
        if chosen.type.startswith("set") and held > pages:
            chosen = self._trace.apply("spread", [chosen._id], {"other": 1.0, "size": pages})
        return self._trace.apply("members", [chosen._id], {})


class ScorePage(_Scored):
    """The page while it is scored: its summaries, its index, its groups; of all candidates, or of the pages of a set."""

    def __init__(self, trace: Trace, summaries: list[str], groups: dict[int, list[str]], members: Value | None = None):
        super().__init__(trace, "page", members)
        self.__dict__.update(_names=summaries, _groups=groups)

    def where(self, chosen) -> "ScorePage":
        """The pages of a set: what is computed from them is computed for them alone."""
        return ScorePage(self._trace, self._names, self._groups, self._list(chosen, 1))

    def group(self, pages: int) -> "ScoreGroup":
        """Groups of `pages` index-aligned pages, and their summaries."""
        _check_size(pages)
        return ScoreGroup(self._trace, pages, self._groups.get(pages, []))

    def keep(self, name, initial=0.0, *axes, **sizes):
        if name in self._names:
            raise UserError(
                place.text(), "a state has a name of its own", f"page.{name}, a summary", "choose another name"
            )
        return _keep(self._trace, "page_state", "page", name, initial, axes, sizes)

    def __getattr__(self, name: str):
        if name in self._names:
            return self._confined(self._trace.source("summary", name=name))
        if name in _sources("page", "summarize") and name not in self._known:
            raise UserError(
                place.text(),
                f"page.{name} exists in summarize",
                "score, which runs every step and does not read whole pages",
                f'store what you need of it: in summarize, page.name = page.{name}.mean("token") or the like',
            )
        if name in self._known:
            value = super().__getattr__(name)
            return self._confined(value) if name == "index" else value
        self._unknown(name, self._names + list(self._known))

    def _advice(self, name: str) -> str:
        return (
            f'declare it in summarize: page.{name} = ...; what is carried from step to step is page.keep("{name}", 0.0)'
        )

    def __setattr__(self, name: str, value):
        raise UserError(
            place.text(),
            "a summary is declared in summarize",
            f"an assignment to page.{name} in score",
            "move it to summarize, or use a variable of your own",
        )


class ScoreGroup(_Scored):
    """Groups of pages while they are scored: their summaries, index and tokens."""

    def __init__(self, trace: Trace, pages: int, summaries: list[str], members: Value | None = None):
        super().__init__(trace, "group", members)
        self.__dict__.update(_pages=pages, _names=summaries, _name=f"page.group({pages})")

    def where(self, chosen) -> "ScoreGroup":
        """The groups of a set of groups, or those inside larger groups of a set."""
        return ScoreGroup(self._trace, self._pages, self._names, self._list(chosen, self._pages))

    def __getattr__(self, name: str):
        if name in self._names:
            return self._confined(self._trace.source("summary", name=stored_name(self._pages, name)))
        if name == "index":
            return self._confined(self._trace.source("group_index", size=self._pages))
        if name == "tokens":
            return self._trace.source("page_tokens") * self._pages
        if name in ("k", "v"):
            raise UserError(
                place.text(),
                f"{self._name}.{name} exists in summarize",
                "score, which runs every step and does not read whole pages",
                f'store what you need of it: in summarize, {self._name}.name = {self._name}.{name}.mean("token") or the like',
            )
        self._unknown(name, [*self._names, "index", "tokens"])

    def _advice(self, name: str) -> str:
        return f"declare it in summarize: {self._name}.{name} = ... of {self._name}.k"

    def __setattr__(self, name: str, value):
        raise UserError(
            place.text(),
            "a summary is declared in summarize",
            f"an assignment to {self._name}.{name} in score",
            "move it to summarize, or use a variable of your own",
        )
