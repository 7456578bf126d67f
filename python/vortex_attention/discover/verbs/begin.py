"""begin: a study with its settings, which stay. Does nothing when it is there with the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Began

if TYPE_CHECKING:
    from .desk import Desk


def begin(
    desk: Desk,
    study: Annotated[str, Says("the study's name", most=64)] = "first",
    model: Annotated[str, Says("a known model's name, or the path of one", most=4096)] = "smollm2",
    evaluator: Annotated[
        str,
        Says(
            "real; replay: on recorded attention, no model; null: numbers from a flow's hash, to try the loop",
            one_of=("real", "replay", "null"),
        ),
    ] = "real",
    seed: Annotated[int, Says("fixes the items", least=0, most=2**31)] = 1,
    items: Annotated[int, Says("needles of the gate", least=4, most=10000)] = 24,
    length: Annotated[int, Says("tokens of a needle's prompt", least=64, most=2**24)] = 4096,
    batch: Annotated[int, Says("sequences of a decode step while speed is measured", least=1, most=4096)] = 8,
    context: Annotated[int, Says("tokens of a sequence while speed is measured", least=64, most=2**24)] = 4096,
    device: Annotated[str, Says("where the model runs: cpu, or cuda for an NVIDIA GPU", most=20)] = "cpu",
    suite: Annotated[str, Says("what is asked: needle, or ruler", most=40)] = "needle",
    tasks: Annotated[str, Says("of ruler: its tasks by commas", most=400)] = "",
    confirm_items: Annotated[int, Says("items of the confirmation", least=4, most=10000)] = 48,
    confirm_tasks: Annotated[str, Says("of ruler: tasks of the confirmation, if others", most=400)] = "",
    confirm_lengths: Annotated[str, Says("prompts of the confirmation in tokens by commas, if others", most=200)] = "",
) -> Began:
    """Begin a study, or say what it began with."""
    from ...models import place_of
    from ..laboratory import workload_of
    from ..study import Study

    workload = workload_of(
        evaluator,
        model=place_of(model),
        length=length,
        gate_items=items,
        confirm_items=confirm_items,
        batch=batch,
        context=context,
        seed=seed,
        device=device,
        suite=suite,
        tasks=tasks,
        confirm_tasks=confirm_tasks,
        confirm_lengths=confirm_lengths,
    )
    there = bool(desk.ledger.rows("SELECT 1 FROM study WHERE name = ?", (study,)))
    settings = {"seed": seed, "variants": 4, "evaluator": evaluator, "workload": workload.to_json()}
    found = Study.open(desk.ledger, study, settings)
    return Began(
        study, not there, found.settings, ["reference start", "propose a flow with its hypothesis", "frontier"]
    )
