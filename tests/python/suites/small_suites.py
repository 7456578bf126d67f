"""What the tests of suites ask, of a model that they are handed."""

from vortex_attention.cli import measure

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))
RULER = {"items": 2, "length": 1500, "tasks": ("niah_single_1", "fwe", "qa_1")}


def wanted(model, suite="text", **changes):
    options = {"items": 3, "length": 500, "steps": 24} if suite == "text" else {}
    values = dict(
        suite=suite,
        flows=("centroid", "quest"),
        model=str(model),
        overrides={"budget": "6"},
        threads=2,
        options=options,
    )
    return measure.Wanted(**(values | changes))


def quiet(*_):
    pass


def outcomes_of(result):
    return {arm["name"]: arm["outcomes"] for arm in result["arms"]}
