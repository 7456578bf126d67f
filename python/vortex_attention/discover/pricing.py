"""What a flow costs in a study, from its IR and the model's shape alone: no weights are loaded and nothing is measured."""

from __future__ import annotations

from .. import _core
from ..models.geometry import geometry_of
from .laboratory import Workload, price_facts
from .mutate import Geometry
from .null import NullLaboratory


class Pricing:
    """geometry and price(program), as a laboratory has them."""

    def __init__(self, workload: Workload):
        self.workload, self.shape = workload, geometry_of(workload.model)
        shape = self.shape
        self.geometry = Geometry(shape.head_dim, shape.group, shape.value_dim, shape.layers, workload.device, shape.kv_heads, shape.values_in_keys)  # fmt: skip

    def price(self, program: _core.Program) -> dict:
        plan = _core.compile_flow(program, **self.shape.bound)
        return price_facts(
            _core.price(plan, **self.shape.workload, context=self.workload.context, batch=self.workload.batch)
        )


def pricing_of(settings: dict, **changed: int) -> Pricing | NullLaboratory:
    """By the settings of a study. changed: fields of its workload that are others here."""
    workload = Workload(**(settings["workload"] | changed))
    return NullLaboratory(workload) if settings.get("evaluator") == "null" else Pricing(workload)
