"""A flow as a graph that can be edited: taken from a program of the IR, changed freely, built into a verified program again.

Building appends every value through the tracer, so a graph that breaks a rule of the language is refused by the language itself
(UserError), never by rules kept here. Values that no root needs are left out.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field

from .. import _core
from ..errors import UserError

STATES = ("page_state", "seq_state")  # ops that read what the step before set
ROOTS = ("budget", "score", "select", "rest_logit", "rest_value")  # in the order in which they are built
MEMBERS = {
    "vortex_ir",
    "flow",
    "doc",
    "source",
    "config",
    "values",
    "summaries",
    "states",
    *ROOTS,
}  # of a program, in a graph
_TYPE = re.compile(r"^(?P<dtype>\w+)\[(?P<axes>[^\]]*)\] @(?P<domain>[\w()%]+)$")


@dataclass(frozen=True)
class ValueType:
    """What "f32[head, sub=4] @page" says: element type, names of the axes, domain."""

    dtype: str
    axes: tuple[str, ...]
    domain: str

    @classmethod
    def parse(cls, text: str) -> ValueType:
        parts = _TYPE.match(text)
        if parts is None:
            raise UserError("discover", 'a type like "f32[head, dim] @page"', f'"{text}"', "report this as a defect")
        axes = tuple(axis.split("=")[0].strip() for axis in parts["axes"].split(",") if axis.strip())
        return cls(parts["dtype"], axes, parts["domain"])


@dataclass
class Node:
    op: str
    inputs: list[int] = field(default_factory=list)
    attributes: dict = field(default_factory=dict)
    type: ValueType | None = None  # known once built


@dataclass
class Graph:
    """Nodes in any order that has no cycle; summaries, states (what each is set to) and roots name nodes by their index."""

    name: str
    doc: str
    config: dict[str, str]
    nodes: list[Node]
    summaries: dict[str, int]
    roots: dict[str, int]
    states: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, program: _core.Program) -> Graph:
        data = json.loads(program.json())
        unknown = sorted(set(data) - MEMBERS)
        if unknown:
            raise UserError(
                "discover",
                "a program of values, summaries, states and the roots " + ", ".join(ROOTS),
                f"{program.name} with {', '.join(unknown)}",
                "search from another flow",
            )
        nodes = [
            Node(
                value["op"],
                list(value.get("inputs", ())),
                {name: INFINITE.get(item, item) for name, item in value.get("attributes", {}).items()},
                ValueType.parse(value["type"]),
            )
            for value in data["values"]
        ]
        summaries = {summary["name"]: summary["value"] for summary in data["summaries"]}
        config = {name: _setting(value) for name, value in data["config"].items()}
        states = {state["name"]: state["value"] for state in data.get("states", ())}
        return cls(
            data["flow"],
            data.get("doc", ""),
            config,
            nodes,
            summaries,
            {name: data[name] for name in ROOTS if name in data},
            states,
        )

    @staticmethod
    def holds(program: _core.Program) -> bool:
        """False for flows with members that a graph has no place for: learned weights, other flows for some layers."""
        return set(json.loads(program.json())) <= MEMBERS

    def copy(self) -> Graph:
        nodes = [Node(node.op, list(node.inputs), dict(node.attributes), node.type) for node in self.nodes]
        return Graph(
            self.name, self.doc, dict(self.config), nodes, dict(self.summaries), dict(self.roots), dict(self.states)
        )

    def add(self, op: str, *inputs: int, **attributes) -> int:
        """Appends a value and returns its index; what it is comes out when the graph is built."""
        self.nodes.append(Node(op, list(inputs), attributes))
        return len(self.nodes) - 1

    def constant(self, number: float) -> int:
        return self.add("constant", value=float(number))

    def source(self, op: str, **attributes) -> int:
        """The value of this source; the one there is, if there is one."""
        for index, node in enumerate(self.nodes):
            if node.op == op and node.attributes == attributes:
                return index
        return self.add(op, **attributes)

    def replace(self, old: int, new: int, *, but: frozenset[int] | set[int] = frozenset()) -> None:
        """Every use of `old` becomes a use of `new`, in roots, summaries and states too, save in the nodes `but`."""
        for index, node in enumerate(self.nodes):
            if index not in but and index != new:
                node.inputs = [new if value == old else value for value in node.inputs]
        self.summaries = {name: new if value == old else value for name, value in self.summaries.items()}
        self.roots = {name: new if value == old else value for name, value in self.roots.items()}
        self.states = {name: new if value == old else value for name, value in self.states.items()}

    def users(self, value: int) -> list[int]:
        return [index for index, node in enumerate(self.nodes) if value in node.inputs]

    def reach(self, *roots: int) -> set[int]:
        """The values that these stand on, themselves included; through a summary to what it is made of, through a state to
        what it is set to."""
        return self._walk(roots, through=True)

    def cone(self, value: int) -> set[int]:
        """The values that this is computed from in one place: summaries and states are where it ends."""
        return self._walk((value,), through=False)

    def _walk(self, roots: tuple[int, ...], through: bool) -> set[int]:
        seen: set[int] = set()
        waiting = list(roots)
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            node = self.nodes[index]
            waiting += node.inputs
            made = self.summaries if node.op == "summary" else self.states if node.op in STATES else {}
            if through and node.attributes.get("name") in made:
                waiting.append(made[node.attributes["name"]])
        return seen

    def ops(self, values: set[int]) -> set[str]:
        return {self.nodes[index].op for index in values}

    def live(self) -> set[int]:
        return self.reach(*self.roots.values())

    def build(self) -> _core.Program:
        """The verified program; types are filled in, dead values and unread summaries left out. UserError says which rule broke."""
        tracer = _core.FlowTracer(self.name, self.doc)
        for name, value in self.config.items():
            tracer.set(name, value)
        ids: dict[int, int] = {}
        live = self.live()
        for name, value in self.summaries.items():
            if value in live and any(
                node.op == "summary" and node.attributes["name"] == name
                for node in (self.nodes[index] for index in live)
            ):
                self._append(tracer, value, ids)
                tracer.summarize(name, ids[value], "", 0)
        for root in ROOTS:
            if root in self.roots:
                self._append(tracer, self.roots[root], ids)
        for reader in sorted(live):
            name = self.nodes[reader].attributes.get("name")
            if self.nodes[reader].op in STATES and name in self.states:
                self._append(tracer, reader, ids)
                self._append(tracer, self.states[name], ids)
                tracer.set_state(ids[reader], ids[self.states[name]], "", 0)
        for root in ("budget", "score", "select"):
            if root in self.roots:
                getattr(tracer, root)(ids[self.roots[root]])
        if "rest_logit" in self.roots:
            tracer.rest(ids[self.roots["rest_logit"]], ids[self.roots["rest_value"]])
        return tracer.finish()

    def _append(self, tracer: _core.FlowTracer, value: int, ids: dict[int, int]) -> None:
        open_values: set[int] = set()
        waiting = [value]
        while waiting:
            index = waiting[-1]
            node = self.nodes[index]
            missing = [other for other in node.inputs if other not in ids]
            if index in ids or not missing:
                waiting.pop()
                if index not in ids:
                    ids[index] = tracer.append(node.op, [ids[other] for other in node.inputs], node.attributes, "", 0)
                    node.type = ValueType.parse(tracer.type_of(ids[index]))
                open_values.discard(index)
                continue
            if index in open_values:
                raise UserError(
                    "discover", "values that do not depend on themselves", f"{node.op} does", "drop the edit"
                )
            open_values.add(index)
            waiting += missing


INFINITE = {"inf": math.inf, "-inf": -math.inf}  # as JSON writes them


def _setting(value) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{item}" for name, item in value.items()) if value else "none"
    if isinstance(value, list):
        return ",".join(str(item) for item in value) if value else "none"
    return str(value)
