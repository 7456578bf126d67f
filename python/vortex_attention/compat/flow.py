"""vFlow, vFlowMLA and register of vortex_torch, and how a class of that kind becomes a program: forward_cache is run once for the
summaries, forward_indexer once for the score."""

import inspect
import math

from vortex_attention import _core
from vortex_attention.compat.indexer import Output
from vortex_attention.compat.ops import Context, Location, refuse
from vortex_attention.compat.sizes import Size
from vortex_attention.compat.tensor import Session, Stored, Tensor, same_size
from vortex_attention.errors import UserError, VortexError
from vortex_attention.language import mistakes, place
from vortex_attention.language.flow import setting_text
from vortex_attention.language.value import FUNCTIONS, State, Trace

DEFAULTS = {  # of vortex_torch's engine
    "block_size": 16,
    "topk_val": 29,
    "topk_ratio": 0.0,
    "block_reserved_bos": 1,
    "block_reserved_eos": 2,
    "layers_skip": [0],
    "dtype": "bfloat16",
    "schedule_policy": None,
}
REFUSED = {  # methods of branches of vortex_torch that do not map
    "create_request_cache": "fields of a request; say what is remembered of a block in create_cache",
    "forward_extend": "a sparse prefill; leave it out, prefill reads everything",
}

registered: dict[str, type] = {}  # of the file that is being traced


def register(name: str):
    """@register("name") before a class: the name a config calls it by."""
    if not isinstance(name, str) or not name:
        refuse("register takes a name", repr(name)[:80], 'say @register("my_flow")')

    def add(cls: type) -> type:
        if not (isinstance(cls, type) and issubclass(cls, vFlow)):
            refuse("register stands before a class derived from vFlow", repr(cls)[:80], "write class MyFlow(vFlow):")
        if name in registered:
            refuse("a name is registered once", f'"{name}" a second time', "choose another name")
        registered[name] = cls
        return cls

    return add


class vFlow:
    """A flow of vortex_torch: create_cache declares fields, forward_cache fills them for a full block, forward_indexer scores blocks."""

    _injected = ("k", "v")

    def create_cache(self, block_size: int, head_dim: int) -> dict:
        return {}

    def forward_cache(self, cache, loc, ctx):
        """Nothing to remember."""

    def forward_indexer(self, q, o, cache, ctx):
        raise NotImplementedError

    @classmethod
    def _fields(cls, flow: "vFlow", page_size: int, size) -> dict:
        return flow.create_cache(page_size, size("dim"))


class vFlowMLA(vFlow):
    """The same on a latent: one field "latent", [kv_c | k_pe], in place of k and v."""

    _injected = ("latent",)

    def create_cache(self, block_size: int, kv_lora_rank: int, qk_rope_head_dim: int) -> dict:
        return {}

    @classmethod
    def _fields(cls, flow: "vFlow", page_size: int, size) -> dict:
        rank = size("value_dim")
        return flow.create_cache(page_size, rank, size("dim") - rank)


class Field(Stored):
    """cache["name"]: in forward_cache what is written once, in forward_indexer what was remembered."""

    def __init__(self, session: Session, name: str, sizes: tuple):
        self.session, self.name, self.sizes = session, name, sizes
        self.written = self.line = self.filled = None  # what forward_cache made of it, and where; the number of Fill
        self.summary = self.state = None  # as read in forward_indexer
        self.saved = False

    def __repr__(self) -> str:
        return f'cache["{self.name}"] [S, {self.sizes[0]}, {self.sizes[1]}]'

    @property
    def shape(self) -> tuple:
        return ("S", *self.sizes)

    def check(self, made: Tensor):
        if not all(same_size(a, b) for a, b in zip(made.sizes, self.sizes)):
            refuse(
                f"{self!r} takes a tensor of its size",
                repr(made),
                f'declare "{self.name}": ({made.sizes[0]}, {made.sizes[1]}) in create_cache, or reduce the tensor',
            )

    def _first(self):
        if self.session.side != "cache":
            refuse("fields are written in forward_cache", f"{self!r} in forward_indexer", "write it there, or Save it")
        if self.line is not None:
            refuse(
                "a field is written once in forward_cache",
                f'cache["{self.name}"] a second time',
                "declare another field",
            )
        self.line = place.here()

    def write(self, made: Tensor):
        self._first()
        self.check(made)
        self.written = self.session.settled(made)

    def fill(self, number: float):
        self._first()
        self.filled = number

    def _constant(self, number: float) -> Tensor:
        """A number in the size of the field: its axes come from the keys."""
        keys = self.session.trace.source("page_k")
        have = (self.session.page_size, Size({"dim": 1}))
        wide = [not same_size(size, 1) for size in self.sizes]
        if not all(same_size(size, of) for size, of, wanted in zip(self.sizes, have, wide) if wanted):
            refuse("Fill fills fields of size 1, head_dim or block_size", repr(self), "declare such a field")
        for wanted, axis in zip(wide, ("token", "dim")):
            keys = keys if wanted else keys.max(axis)
        return self.session.settled(
            Tensor(FUNCTIONS["where"](keys, number, number), "token" if wide[0] else None, "dim" if wide[1] else None)
        )

    def read(self) -> Tensor:
        if self.session.side == "cache":
            refuse(
                "forward_cache reads k, v and what its ops made; fields hold what an earlier call wrote",
                f'cache["{self.name}"] as an operand',
                'keep the tensor that the op returned: x = op(cache["k"], loc=loc, ctx=ctx)',
            )
        return self.load() if self.name in self.session.saved else self.remembered()

    def remembered(self) -> Tensor:
        """What forward_cache wrote, as a summary."""
        if self.line is None and not self.session.probing:
            refuse(
                "a field is written in forward_cache before it is read",
                f'cache["{self.name}"], which nothing writes',
                "write it there",
            )
        if self.summary is None:
            made = self._constant(self.filled or 0.0) if self.written is None else self.written
            name = self.session.name_of(self.name)
            self.session.trace.tracer.summarize(name, made.value._id, *(self.line or place.here()))
            self.summary = Tensor(self.session.trace.source("summary", name=name), made.rows, made.cols)
        return self.summary

    def load(self) -> Tensor:
        """What Save left in the step before; before the first what forward_cache wrote."""
        if self.session.probing:
            return self.remembered()
        if self.line is None:
            refuse(
                "what is saved starts with what forward_cache writes",
                f'cache["{self.name}"], which nothing writes there',
                f'fill it: self.fill = CFill(0.0); self.fill(cache["{self.name}"], loc=loc, ctx=ctx)',
            )
        if self.state is None:
            axes = [None, None]
            for i, (size, name) in enumerate(zip(self.sizes, ("rows", "dim"))):
                if same_size(size, Size({"dim": 1})):
                    axes[i] = "dim"
                elif isinstance(size, Size):
                    refuse("what is saved has sizes of numbers or of head_dim", repr(self), "declare such a field")
                elif size > 1:
                    axes[i] = f"{name if name == 'rows' else 'columns'}={size}"
            text = ", ".join(filter(None, axes))
            rows, cols = (axis and axis.partition("=")[0] for axis in axes)
            keep = lambda name, initial, text: self.session.trace.source(
                "page_state", of=State, name=name, initial=initial, axes=text
            )
            if self.written is None:
                kept = keep(self.session.name_of(self.name), self.filled, text)
                self.state = Tensor(kept, rows, cols), kept, None
            else:  # a number is all that a state starts with: a mark says whether the page has been saved
                kept = keep(self.session.name_of(self.name), 0.0, text)
                mark = keep(self.session.name_of(f"{self.name}_saved"), 0.0, "")
                now = Tensor(FUNCTIONS["where"](mark, kept, self.remembered().renamed(rows, cols).value), rows, cols)
                self.state = now, kept, mark
        return self.state[0]

    def save(self, made: Tensor):
        self.check(made)
        if self.saved:
            refuse("a field is saved once a step", f'cache["{self.name}"] a second time', "leave one out")
        self.saved = True
        if self.session.probing:
            return
        now = self.load()
        _, kept, mark = self.state
        kept.set(made.renamed(now.rows, now.cols).value)
        if mark is not None:
            mark.set(self.session.trace.source("constant", value=1.0))


class Block(Field):
    """cache["k"], cache["v"] or cache["latent"]: in forward_indexer a copy of the block is what is remembered."""

    def __init__(self, session: Session, name: str, at: tuple[str, int]):
        self.at = at
        super().__init__(session, name, (session.page_size, Size({"value_dim" if name == "v" else "dim": 1})))

    @property
    def block(self) -> Tensor:
        return Tensor(self.session.trace.source("page_v" if self.name == "v" else "page_k", at=self.at), "token", "dim")

    def write(self, made: Tensor):
        refuse(
            "k, v and latent are the engine's",
            f'an op that writes cache["{self.name}"]',
            "write a field of create_cache",
        )

    def fill(self, number: float):
        self.write(None)

    def read(self) -> Tensor:
        if self.session.side == "cache":
            return self.block
        if self.written is None:
            self.written, self.line = self.block, place.here()
        return self.remembered()

    def save(self, made: Tensor):
        self.write(made)


class Cache(dict):
    """cache: the fields by name."""

    def __missing__(self, name):
        near = _core.nearest_name(name, list(self)) if isinstance(name, str) else ""
        refuse(
            f"cache has {', '.join(self)}",
            f"{name!r}"[:80],
            f'did you mean cache["{near}"]?' if near else "declare it in create_cache",
        )


def _declared(cls: type, flow: vFlow, session: Session) -> dict:
    """The fields of create_cache, checked."""

    def size(symbol: str) -> Size:
        return Size({symbol: 1}, lambda of, number: assume(session, of, number))

    session.side = "cache"
    fields = cls._fields(flow, session.page_size, size)
    session.side = None
    where = place.of_function(cls.create_cache)
    if not isinstance(fields, dict):
        raise UserError(
            where,
            "create_cache returns a dict, field → (rows, columns)",
            repr(fields)[:80],
            'say return {"mean": (1, head_dim)}',
        )
    for name, shape in fields.items():
        if name in cls._injected:
            raise UserError(
                where, f"create_cache must not declare '{name}' key: the engine has it", f'"{name}"', "leave it out"
            )
        right = isinstance(name, str) and isinstance(shape, (tuple, list)) and len(shape) == 2
        if not right or not all(isinstance(part, Size) or type(part) is int and part > 0 for part in shape):
            raise UserError(
                where,
                "a field has a name and two whole sizes",
                f"{name!r}: {shape!r}"[:80],
                'say "mean": (1, head_dim)',
            )
    return fields


def assume(session: Session, size: Size, number: int):
    """The flow claims that a size is this number. A model where it is not has no such run, or leaves a rest, and is refused."""
    if len(size.terms) != 1 or not set(size.terms) <= {"dim", "value_dim"} or number < 1:
        size._refuse(f"== {number}")
    ((symbol, share),) = size.terms.items()
    value = session.trace.source("page_v" if symbol == "value_dim" else "page_k")
    elements = math.ceil(number / share)
    value.slice("dim", 0, elements)
    value.split("dim", next(session.names), elements)


def _config(trace: Trace, settings: dict):
    texts = {
        "page_size": settings["block_size"],
        "sinks": settings["block_reserved_bos"],
        "recent": settings["block_reserved_eos"],
        "full_attention_layers": settings["layers_skip"] or [],
        "summary_dtype": {"bfloat16": "bf16", "float32": "f32"}[settings["dtype"]],
    }
    if settings["schedule_policy"] is None:
        pinned = settings["block_reserved_bos"] + settings["block_reserved_eos"]
        texts |= {"budget": settings["topk_val"] + pinned, "budget_ratio": settings["topk_ratio"]}
    else:
        names = ("topk_val", "topk_ratio", "block_reserved_bos", "block_reserved_eos")
        trace.tracer.budget_snippet(settings["schedule_policy"], {name: float(settings[name]) for name in names}, "", 0)
    for name, value in texts.items():
        trace.tracer.set(name, setting_text(value))


def _at(function) -> tuple[str, int]:
    return place.short(function.__code__.co_filename), function.__code__.co_firstlineno


def _run(cls: type, trace: Trace, settings: dict, saved: set, probing: bool) -> set:
    """Runs the flow's methods once; the names of the fields that it saves. `saved`: those, as far as they are known."""
    session = Session(trace, settings["block_size"])
    session.saved, session.probing = saved, probing
    for name, reason in REFUSED.items():
        if hasattr(cls, name):
            raise UserError(
                place.of_function(getattr(cls, name)),
                "a flow has create_cache, forward_cache and forward_indexer",
                f"{name}, {reason.partition('; ')[0]}",
                reason.partition("; ")[2],
            )
    _config(trace, settings)
    flow = cls()
    fields = _declared(cls, flow, session)
    cache = Cache({name: Block(session, name, _at(cls.forward_cache)) for name in cls._injected})
    cache.update({name: Field(session, name, tuple(shape)) for name, shape in fields.items()})
    session.side = "cache"
    flow.forward_cache(cache, Location(), Context())
    session.side = "indexer"
    at = _at(cls.forward_indexer)
    scaled, scale = (trace.source(name, at=at)._id for name in ("q", "layer_scale"))
    q = trace.apply("div", [scaled, scale], {}, at)  # vortex_torch scores with the query as it is
    flow.forward_indexer(Tensor(q, "head", "dim"), Output(), cache, Context())
    session.side = None
    if session.result is None:
        raise UserError(
            place.of_function(cls.forward_indexer),
            "forward_indexer ends in a choice: topK, approxTopK or Union",
            "none",
            "say self.output_func(score, o, ctx=ctx)",
        )
    kind, value = session.result
    (trace.tracer.score if kind == "score" else trace.tracer.select)(value._id)
    return {name for name, field in cache.items() if field.saved}


def trace_class(cls: type, settings: dict) -> _core.Program:
    """The verified program of a class of vortex_torch under the settings of its config; those that are not given have the defaults."""
    settings = DEFAULTS | settings
    doc = inspect.cleandoc(cls.__doc__ or "")[:4000]
    try:
        # A field may be read before the op that saves it is met, so what is saved is found out first.
        saved = _run(cls, Trace(cls.__name__, doc), settings, set(), True)
        recording = Trace(cls.__name__, doc)
        _run(cls, recording, settings, saved, False)
        return recording.tracer.finish()
    except VortexError:
        raise
    except Exception as error:
        where = place.of_traceback(error) or cls.__name__
        raise mistakes.explained(error, where, "the flow must trace without errors") from error
    finally:
        Session.current = None
