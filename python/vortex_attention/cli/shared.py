"""Options that quick commands share with the others (options.py), and how their text becomes settings. Imports nothing heavy."""

from vortex_attention.cli.declare import Option
from vortex_attention.errors import UserError


def _trust(given: bool) -> bool:
    from vortex_attention.language import loader

    loader.trust_files = given
    return given


BUDGET = Option(of=int, help="Pages a row attends in all; each flow's own when not given.")
SETTINGS = Option("--set", of=[str], help="Another setting of the flows, NAME=VALUE; may be given several times.")
KV_DTYPE = Option(
    "--kv-dtype",
    of=str,
    help="How K and V are stored: bf16, or int8 or (on a GPU) fp8 with a scale a token and KV head.",
)
JSON = Option("--json", of=bool, help="Print the result as JSON instead of text.")
TRUST_FLOW = Option(
    "--trust-flow",
    of=bool,
    callback=_trust,
    help="Run the flows' files with your own rights instead of in a sandbox.",
)


def overrides_of(settings: list[str] | None, budget: int | None) -> dict[str, str]:
    """["budget=32", "sinks=2"] → {"budget": "32", "sinks": "2"}; names are checked where the flow is loaded."""
    result: dict[str, str] = {}
    for text in settings or []:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UserError(
                "--set",
                "NAME=VALUE, for example budget=32",
                f"{text!r}",
                "write the name, an equals sign and the value",
            )
        result[name.strip()] = value.strip()
    if budget is not None:
        result["budget"] = str(budget)
    return result
