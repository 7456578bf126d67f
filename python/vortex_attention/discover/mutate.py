"""Variants of a flow: random edits of its graph that the language accepts and that mean something else.

Deterministic given the random generator. A variant fits the geometry it is made for; nothing is measured here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .. import _core
from ..errors import UserError
from .edits import EDITS, Around, Edit, NotHere
from .graph import Graph

MAX_VALUES = 120  # of a variant; a longer one will not be fast
MAX_SUMMARY_BYTES = 0.5  # share of the bytes of a page that a summary stays below


@dataclass(frozen=True)
class Geometry:
    """What a variant must fit: channels of a key and a value, query heads of a KV head, layers (0: unknown), and what the device that it
    runs on has kernels for."""

    head_dim: int
    group: int
    value_dim: int = 0
    layers: int = 0
    device: str = "cpu"
    kv_heads: int = 1
    values_in_keys: bool = False

    def require_served(self, program: _core.Program) -> None:
        """UserError in the device's own words when it lacks what the flow uses."""
        if self.device != "cpu":
            _core.require_served(
                program,
                self.device,
                layers=max(1, self.layers),
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                group=self.group,
                value_dim=self.value_dim,
                values_in_keys=self.values_in_keys,
            )


@dataclass(frozen=True)
class Variant:
    program: _core.Program
    edits: tuple[tuple[str, str], ...]  # (name of the edit, what it did)

    @property
    def described(self) -> str:
        return "; ".join(text for _, text in self.edits)


def vary(
    parent: _core.Program,
    rng: random.Random,
    geometry: Geometry,
    *,
    donors: list[_core.Program] = (),
    known: set[str] = frozenset(),
    name: str = "",
    tries: int = 200,
    allowed: list[Edit] | None = None,
) -> Variant | None:
    """A flow one to three edits away from `parent` whose canonical hash is in `known` nowhere; None when none was found.

    donors: flows whose scores may be crossed in. allowed: the edits that may be drawn, all of them when None.
    """
    drawn = EDITS if allowed is None else allowed
    around = Around([Graph.of(donor) for donor in donors if donor.hash != parent.hash], geometry.layers)
    for _ in range(tries):
        graph = Graph.of(parent)
        graph.name = name or parent.name
        done: list[tuple[str, str]] = []
        try:
            for _ in range(rng.choices((1, 2, 3), (0.6, 0.3, 0.1))[0]):
                edit = rng.choices(drawn, [edit.weight for edit in drawn])[0]
                text = edit.apply(graph, rng, around)
                graph.build()  # the types that the next edit asks for
                done.append((edit.name, text))
            program = graph.build()
            fits(program, geometry)
        except (NotHere, UserError):
            continue
        if program.hash != parent.hash and program.hash not in known:
            return Variant(program, tuple(done))
    return None


def require_short(program: _core.Program) -> None:
    """UserError for a program that is not to be compiled: nobody's call waits for one of thousands of values."""
    if program.values > MAX_VALUES:
        raise UserError("discover", f"at most {MAX_VALUES} values", f"{program.values}", "start from a shorter flow")


def fits(program: _core.Program, geometry: Geometry) -> None:
    """UserError when the flow does not fit the geometry or the device, is too long, or remembers too much of a page to be worth it."""
    program.verify_for(geometry.head_dim, geometry.group, geometry.value_dim)
    require_short(program)
    plan = _core.compile_flow(program, head_dim=geometry.head_dim, group=geometry.group, value_dim=geometry.value_dim)
    price = _core.price(
        plan, layers=max(1, geometry.layers), heads=geometry.group, kv_heads=1, head_dim=geometry.head_dim, context=4096
    )
    if price.summary_bytes_per_page >= MAX_SUMMARY_BYTES * price.kv_bytes_per_page:
        raise UserError(
            "discover",
            f"summaries below {MAX_SUMMARY_BYTES:.0%} of a page",
            f"{price.summary_bytes_per_page} of {price.kv_bytes_per_page} bytes",
            "remember less",
        )
    geometry.require_served(program)
