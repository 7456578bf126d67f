"""The shape of a model without its weights: what a flow is compiled for and priced on."""

from collections import namedtuple

from vortex_attention import _core


class Geometry(
    namedtuple(
        "Geometry",
        (
            "name",
            "layers",
            "heads",
            "kv_heads",  # MLA: 1, whatever the heads
            "head_dim",  # of q and of a key as attention sees them
            "context",
            "weight_bytes",  # of the matrices, which a decode step reads whole
            "weights",  # numbers in those bytes
            "value_dim",  # of a value; 0: head_dim
            "values_in_keys",  # MLA
            "kv_dtype",
        ),
        defaults=(0, 0, False, "bf16"),
    )
):
    """A model's sizes."""

    __slots__ = ()

    @property
    def token_bytes(self) -> int:
        """Of the K and V of one token and KV head, as they are stored."""
        return _core.kv_token_bytes(self.head_dim, self.value_dim, self.values_in_keys, self.kv_dtype)

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def bound(self) -> dict[str, int]:
        """What a flow is compiled for."""
        return dict(head_dim=self.head_dim, group=self.group, value_dim=self.value_dim)

    @property
    def workload(self) -> dict[str, int]:
        """What a flow is priced on, apart from context and batch."""
        names = ("layers", "heads", "kv_heads", "head_dim", "token_bytes", "weight_bytes", "weights")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        heads = f"{self.heads} query and {self.kv_heads} KV heads of {self.head_dim} channels"
        return f"{self.name}, {self.layers} layers, {heads}"


# Known models, so that checking a flow downloads nothing.
KNOWN = {
    "smollm2": Geometry(
        "smollm2",
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        context=8192,
        weight_bytes=96_436_224,
        weights=134_479_872,
        value_dim=64,
    )
}


def geometry_of(model: str, kv_dtype: str = "bf16") -> Geometry:
    """Of a known model or shape, or of a model's file or folder, K and V stored as `kv_dtype`; weights are not read."""
    if model in KNOWN:
        return KNOWN[model]._replace(kv_dtype=kv_dtype)
    from vortex_attention.models import open_source
    from vortex_attention.models.dummy_source import known_shapes

    return of_source(open_source(model, "dummy" if model in known_shapes() else "auto"), kv_dtype)


def of_source(source, kv_dtype: str = "bf16") -> Geometry:
    """Of an opened model, whose weights are not read."""
    config, weights = source.config, source.weights()
    # Those a token reads whole: of the experts only its own; the embedding is read by rows.
    weight_bytes, count = 0.0, 0.0
    for name, rows, columns, use in _core.required_weights(config):
        if use == "linear" and name in weights:
            share = config.experts_per_token / config.experts if ".experts." in name else 1
            weight_bytes += weights[name].bytes * share
            count += rows * columns * share
    attention = config.attention
    return Geometry(
        source.name,
        layers=config.layers,
        heads=attention.kv_heads * attention.group,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        context=config.context,
        weight_bytes=int(weight_bytes),
        weights=int(count),
        value_dim=attention.value_dim,
        values_in_keys=attention.values_in_keys,
        kv_dtype=kv_dtype,
    )
