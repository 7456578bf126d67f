"""vFlow, the class that flows derive from, and trace, which turns such a class into a program of the IR."""

import numbers

from vortex_attention import _core, printable
from vortex_attention.errors import UserError, VortexError
from vortex_attention.language import mistakes, place
from vortex_attention.language.owners import Owner, ScorePage, SeqOwner, SummarizePage
from vortex_attention.language.value import Trace, Value, _spoken

METHODS = ["summarize", "score", "select", "rest", "budget"]
SNIPPET_NAMES = {  # numbers of a budget snippet → the setting or the class's own number they come from
    "topk_val": "topk_val",
    "topk_ratio": "topk_ratio",
    "block_reserved_bos": "sinks",
    "block_reserved_eos": "recent",
}


class vFlow:
    """A sparse-attention algorithm: what to remember of a page (summarize), and how to score it (score).

    `def select(self, score)` returns the set of pages to attend instead of the best by score; `def rest(self, q, page)` what a page
    that is not chosen still contributes.

    Class attributes are its settings: page_size, budget, budget_ratio, sinks, recent, full_attention_layers, summary_dtype,
    reuse, refresh_every; `weights = "learned.safetensors"` names the file of vx.param; `layers = {(0, 1): "streaming", "8-11": Other}` gives some layers flows of their own.
    `def budget(self, seq, layer)` computes the budget instead: how many pages a row attends in all. As a string, `budget` is
    the body of a CUDA C++ function that returns it.
    """

    def summarize(self, page):
        """Called once for a full page: page.name = value declares a summary."""

    def score(self, q, page):
        """Called every decode step for every candidate page: one number a page. `score = None` attends the pinned pages only."""
        raise NotImplementedError


def _line_of(cls: type, name: str | None) -> str:
    """ "quest.py:7", where a class sets an attribute, or where it begins."""
    import ast
    import inspect
    import linecache

    function = next((member for member in vars(cls).values() if inspect.isfunction(member)), None)
    path = function.__code__.co_filename if function else getattr(inspect.getmodule(cls), "__file__", None)
    if path is None:
        return f"class {cls.__name__}"
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
            continue
        for statement in node.body:
            for target in ast.walk(statement):
                if (
                    isinstance(statement, (ast.Assign, ast.AnnAssign))
                    and isinstance(target, ast.Name)
                    and target.id == name
                ):
                    return f"{place.short(path)}:{statement.lineno}"
                if isinstance(statement, ast.FunctionDef) and statement.name == name:
                    return f"{place.short(path)}:{statement.lineno}"
        return f"{place.short(path)}:{node.lineno}"
    return place.short(path)


def _own_members(cls: type) -> dict:
    """What the class and its bases below vFlow define, without private names."""
    members = {}
    for base in reversed(cls.__mro__):
        if base not in (object, vFlow):
            members.update({name: (base, member) for name, member in vars(base).items() if not name.startswith("_")})
    return members


def _check_members(cls: type):
    settings = _core.FlowConfig.names()
    for name, (base, member) in _own_members(cls).items():
        is_method = callable(member) or isinstance(member, (property, staticmethod, classmethod))
        if name in settings and is_method and name not in METHODS:
            raise UserError(
                _line_of(base, name),
                f"a flow has the methods {', '.join(METHODS)} and its settings",
                f"{name} as a method, which this version does not know",
                "leave it out",
            )
        if name in METHODS and isinstance(member, (property, staticmethod, classmethod)):
            came = f"{name} as a {type(member).__name__}"
            raise UserError(
                _line_of(base, name), "a method of a flow begins with self", came, f"write def {name}(self, ...) alone"
            )
        if name in ("layers", "weights") and not is_method:
            continue
        known = METHODS if is_method else settings
        near = _core.nearest_name(name, known) if name not in METHODS + settings else ""
        if near:
            kind = (
                f"the methods of a flow are {', '.join(METHODS)}"
                if is_method
                else f"the settings of a flow are {', '.join(settings)}"
            )
            raise UserError(
                _line_of(base, name),
                kind,
                f'"{name}"',
                f'did you mean "{near}"? If it is your own, give it another name',
            )
    if "score" not in _own_members(cls):
        raise UserError(
            _line_of(cls, None),
            "a flow must define score(self, q, page)",
            f"class {cls.__name__} without it",
            "define it, or write score = None to attend the pinned pages only",
        )


def setting_text(value) -> str | None:
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return ",".join(str(item) for item in sorted(value)) if value else "none"
    if isinstance(value, dict):
        return ",".join(f"{layer}:{other}" for layer, other in sorted(value.items())) if value else "none"
    return str(value)


def _set_config(cls: type, trace: Trace):
    members = _own_members(cls)
    for name in _core.FlowConfig.names():
        if name in members and not (name == "budget" and _computes_budget(members[name][1])):
            try:
                trace.tracer.set(name, setting_text(members[name][1]))
            except UserError as error:
                share = name == "budget" and isinstance(members[name][1], float) and 0 < members[name][1] < 1
                todo = "a share of the pages is budget_ratio" if share else error.todo
                raise UserError(_line_of(members[name][0], name), error.required, error.came, todo) from None


def _set_weights(cls: type, trace: Trace):
    """The file beside the flow that holds its learned parameters."""
    base, file = _own_members(cls).get("weights", (None, ""))
    if base is None or not isinstance(file, str):  # other things of that name are the flow's own
        return
    if not file or "/" in file or "\\" in file or file.startswith("."):
        raise UserError(
            _line_of(base, "weights"),
            "weights name a safetensors file beside the flow, without a folder",
            _spoken(file),
            'write weights = "learned.safetensors"',
        )
    trace.tracer.weights(file)


def _computes_budget(budget) -> bool:
    """A method, or a snippet of CUDA C++; not a number, nor the text of one."""
    return callable(budget) or (isinstance(budget, str) and any(mark in budget for mark in (";", "{", "return")))


def _run_budget(cls: type, flow: vFlow, trace: Trace):
    members = _own_members(cls)
    base, budget = members.get("budget", (None, 0))
    if not _computes_budget(budget):
        return
    if members.get("budget_ratio", (None, 0))[1]:
        raise UserError(
            _line_of(members["budget_ratio"][0], "budget_ratio"),
            "a flow says its budget once",
            "budget_ratio beside a budget that is computed",
            "leave one out",
        )
    if isinstance(budget, str):
        defaults = _core.FlowConfig()
        known = {
            snippet_name: members.get(name, (None, getattr(defaults, name, None)))[1]
            for snippet_name, name in SNIPPET_NAMES.items()
        }
        file, _, line = _line_of(base, "budget").rpartition(":")
        known = {name: number for name, number in known.items() if isinstance(number, (int, float))}
        trace.tracer.budget_snippet(budget, known, file or line, int(line) if file else 0)
        return
    offered = {"seq": Owner(trace, "seq", "score", "budget"), "layer": Owner(trace, "layer", "score", "budget")}
    value = budget(flow, *_call(budget, offered))
    if not isinstance(value, (Value, numbers.Real)):
        todo = "end it with return ..." if value is None else "return a value of seq, layer and numbers"
        raise UserError(place.of_function(budget), "budget returns how many pages a row attends", _spoken(value), todo)
    at = (place.short(budget.__code__.co_filename), budget.__code__.co_firstlineno)
    value = value if isinstance(value, Value) else trace.source("constant", at=at, value=float(value))
    trace.tracer.budget(trace.value(value, "budget")._id)


def _call(method, offered: dict):
    """Calls a method of a flow with what it asks for by name."""
    given = list(method.__code__.co_varnames[: method.__code__.co_argcount])
    if not given or given[0] in offered:
        raise UserError(
            place.of_function(method),
            "a method of a flow begins with self",
            f"{method.__name__}({', '.join(given)})",
            f"write def {method.__name__}({', '.join(['self', *given])})",
        )
    names = given[1:]
    for name in names:
        if name not in offered:
            near = _core.nearest_name(name, list(offered))
            raise UserError(
                place.of_function(method),
                f"{method.__name__} is given {', '.join(offered)}, by name",
                f'"{name}"',
                f'did you mean "{near}"?' if near else "use these names",
            )
    return [offered[name] for name in names]


def _run(cls: type, trace: Trace):
    flow = cls()
    page = SummarizePage(trace)
    summarize = type(flow).summarize
    if summarize is not vFlow.summarize:
        returned = summarize(flow, *_call(summarize, {"page": page}))
        if returned is not None:
            raise UserError(
                place.of_function(summarize),
                "summarize returns nothing",
                _spoken(returned),
                "declare what is remembered: page.name = value",
            )
    page.declare()
    _run_budget(cls, flow, trace)
    score = type(flow).score
    members = _own_members(cls)
    if score is None:
        for name in ("select", "rest"):
            if name in members:
                raise UserError(
                    _line_of(members[name][0], name),
                    f"a flow with {name} scores its pages",
                    "score = None",
                    "define score(self, q, page); it may return page.index",
                )
        return
    offered = {
        "q": None,
        "page": ScorePage(trace, list(page._summaries), page.group_names()),
        "seq": SeqOwner(trace, "seq", "score"),
        "layer": Owner(trace, "layer", "score"),
    }

    def call(method, more: dict):
        code = method.__code__
        if "q" in code.co_varnames[: code.co_argcount] and offered["q"] is None:
            offered["q"] = trace.source("q", at=(place.short(code.co_filename), code.co_firstlineno))
        return method(flow, *_call(method, offered | more))

    value = call(score, {})
    if "rest" in members:
        _run_rest(trace, members["rest"][1], call)
    if "select" in members:
        _run_select(trace, members["select"][1], value, call)
        return
    if value is None:
        raise UserError(
            place.of_function(score), "score must return one number a page", "nothing", "end it with return ..."
        )
    if not isinstance(value, (Value, numbers.Real)):
        raise UserError(
            place.of_function(score),
            "score must return one number a page",
            _spoken(value),
            "return a value of the flow",
        )
    if not isinstance(value, Value):
        value = trace.source(
            "constant", at=(place.short(score.__code__.co_filename), score.__code__.co_firstlineno), value=float(value)
        )
    trace.tracer.score(trace.value(value, "score")._id)


def _run_select(trace: Trace, select, score, call):
    chosen = call(select, {"score": score})
    if not isinstance(chosen, Value):
        todo = "end it with return ..." if chosen is None else "make one: vx.top_k(score, 16), vx.top_p(score, 0.9)"
        raise UserError(place.of_function(select), "select returns a set of pages", _spoken(chosen), todo)
    trace.tracer.select(trace.value(chosen, "select")._id)


def _run_rest(trace: Trace, rest, call):
    parts = call(rest, {})
    if not isinstance(parts, tuple) or len(parts) != 2 or not all(isinstance(part, Value) for part in parts):
        raise UserError(
            place.of_function(rest),
            "rest returns two values, the logit and the value of a page that is not chosen",
            _spoken(parts),
            "end it with return logit, value",
        )
    trace.tracer.rest(*(trace.value(part, "rest")._id for part in parts))


class _Library:
    """The flows that have names, as the package of ready flows says them: their names, and the program of one."""

    names, ready = staticmethod(lambda: []), None


_library = _Library()


def set_library(names, ready):
    _library.names, _library.ready = names, ready


def layers_text(layers) -> str:
    """3, (0, 1), range(4) or "0-3" as the settings write layers."""
    return setting_text(layers) if not isinstance(layers, numbers.Integral) else str(int(layers))


def _with_layers(cls: type, program: _core.Program) -> _core.Program:
    """The program with the flows of `layers = {(0, 1): Other, "2-5": "streaming"}` for those layers: classes, or ready flows by name."""
    base, layers = _own_members(cls).get("layers", (None, {}))
    where = _line_of(base, "layers") if base else ""
    if not isinstance(layers, dict):
        raise UserError(
            where,
            "layers is a dictionary, layers → flow",
            _spoken(layers),
            'write layers = {(0, 1): "streaming", "8-11": Other}',
        )
    for which, other in layers.items():
        known = _library.names()
        if isinstance(other, str) and other in known:
            other = _library.ready(other)
        elif isinstance(other, type) and issubclass(other, vFlow) and other is not vFlow:
            other = trace(other)
        else:
            near = _core.nearest_name(other, known) if isinstance(other, str) else ""
            raise UserError(
                where,
                "layers names classes derived from vFlow, or ready flows",
                _spoken(other),
                f'did you mean "{near}"?' if near else f"ready flows are {', '.join(known)}",
            )
        try:
            program = program.with_layers(layers_text(which), other)
        except UserError as error:
            raise UserError(where, error.required, error.came, error.todo) from None
    return program


def _doc_of(cls: type) -> str:
    """The docstring, printable, its first 4,000 characters, without the indentation of its lines."""
    doc = cls.__doc__ or ""
    if "\n" not in doc:
        return printable.blanked(doc.strip(), lines=True)[:4000]
    import inspect

    return printable.blanked(inspect.cleandoc(doc), lines=True)[:4000]


def trace(cls: type) -> _core.Program:
    """The program of a flow class, verified. Runs the class's own code in this process: for code you trust."""
    if not (isinstance(cls, type) and issubclass(cls, vFlow) and cls is not vFlow):
        raise UserError(
            "trace", "a class derived from vFlow", repr(cls)[:80], "pass the class itself, not an instance or its name"
        )
    _check_members(cls)
    recording = Trace(cls.__name__, _doc_of(cls))
    _set_config(cls, recording)
    _set_weights(cls, recording)
    try:
        _run(cls, recording)
        return _with_layers(cls, recording.tracer.finish())
    except VortexError:
        raise
    except Exception as error:
        where = place.of_traceback(error) or cls.__name__
        raise mistakes.explained(error, where, "the flow must trace without errors") from error
