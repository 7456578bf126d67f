"""vFlow, vFlowMLA and register of vortex_torch, and how a class of that kind becomes a program: forward_cache is run once for the
summaries, forward_indexer once for the score."""

import inspect
import math
import re

from vortex_attention import _core
from vortex_attention.compat.indexer import Output
from vortex_attention.compat.ops import Context, Location, refuse
from vortex_attention.compat.sizes import Size
from vortex_attention.compat.tensor import Session, Stored, Tensor, same_size
from vortex_attention.errors import UserError, VortexError
from vortex_attention.language import mistakes, place
from vortex_attention.language.flow import setting_text
from vortex_attention.language.value import FUNCTIONS, Trace

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
        self.written, self.line, self.summary = None, None, None

    def __repr__(self) -> str:
        return f'cache["{self.name}"] [S, {self.sizes[0]}, {self.sizes[1]}]'

    @property
    def shape(self) -> tuple:
        return ("S", *self.sizes)

    def write(self, made: Tensor):
        if self.session.side != "cache":
            refuse("fields are written in forward_cache", f"{self!r} in forward_indexer", "write it there")
        if self.written is not None:
            refuse(
                "a field is written once in forward_cache",
                f'cache["{self.name}"] a second time',
                "declare another field",
            )
        if not all(same_size(a, b) for a, b in zip(made.sizes, self.sizes)):
            refuse(
                f"{self!r} takes a tensor of its size",
                repr(made),
                f'declare "{self.name}": ({made.sizes[0]}, {made.sizes[1]}) in create_cache, or reduce the tensor',
            )
        self.written, self.line = self.session.settled(made), place.here()

    def fill(self, number: float):
        """A constant: axes of the field's size come from the keys."""
        keys = self.session.trace.source("page_k")
        of = {
            (): keys.max("token").max("dim"),
            ("cols",): keys.max("token"),
            ("rows",): keys.max("dim"),
            ("rows", "cols"): keys,
        }
        key = Tensor(keys, "token", "dim")
        wanted = tuple(name for name, size in zip(("rows", "cols"), self.sizes) if not same_size(size, 1))
        fits = all(same_size(size, 1) or same_size(size, have) for size, have in zip(self.sizes, key.sizes))
        if not fits:
            refuse("Fill fills fields of size 1, head_dim or block_size", repr(self), "declare such a field")
        value = FUNCTIONS["where"](of[wanted], number, number)
        self.write(Tensor(value, "token" if "rows" in wanted else None, "dim" if "cols" in wanted else None))

    def read(self) -> Tensor:
        if self.session.side == "cache":
            refuse(
                "forward_cache reads k, v and what its ops made; fields hold what an earlier call wrote",
                f'cache["{self.name}"] as an operand',
                'keep the tensor that the op returned: x = op(cache["k"], loc=loc, ctx=ctx)',
            )
        if self.written is None:
            refuse(
                "a field is written in forward_cache before it is read",
                f'cache["{self.name}"], which nothing writes',
                "write it there",
            )
        if self.summary is None:
            name = re.sub(r"[^A-Za-z0-9_]", "_", self.name)[:60]
            name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
            taken = self.session.summaries
            while name in taken:
                name += "_"
            taken.add(name)
            self.session.trace.tracer.summarize(name, self.written.value._id, *self.line)
            value = self.session.trace.source("summary", name=name)
            self.summary = Tensor(value, self.written.rows, self.written.cols)
        return self.summary


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
        return super().read()


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
    if set(size.terms) > {"dim", "value_dim"} or len(size.terms) != 1 or number < 1:
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


def _run(cls: type, trace: Trace, settings: dict):
    session = Session(trace, settings["block_size"])
    session.summaries = set()
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


def trace_class(cls: type, settings: dict) -> _core.Program:
    """The verified program of a class of vortex_torch under the settings of its config; those that are not given have the defaults."""
    recording = Trace(cls.__name__, inspect.cleandoc(cls.__doc__ or "")[:4000])
    try:
        _run(cls, recording, DEFAULTS | settings)
        return recording.tracer.finish()
    except VortexError:
        raise
    except Exception as error:
        where = place.of_traceback(error) or cls.__name__
        raise mistakes.explained(error, where, "the flow must trace without errors") from error
    finally:
        Session.current = None
