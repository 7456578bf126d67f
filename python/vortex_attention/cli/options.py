"""Options that several commands share, and how their text becomes settings. Bad text is the user's error, in words."""

from __future__ import annotations

from typing import Annotated, Optional

from vortex_attention.cli import shared
from vortex_attention.cli.declare import Argument, Option
from vortex_attention.cli.shared import overrides_of as overrides_of
from vortex_attention.errors import UserError

Model = Annotated[str, Option(help="A known model's name, or the path of a model.")]
LoadFormat = Annotated[
    str,
    Option(
        help="auto: what is there. dummy: random weights for a folder with a config.json, or for a known shape such as "
        "qwen3-0.6b; for measuring speed."
    ),
]
Flows = Annotated[
    Optional[list[str]],
    Argument(
        help="Ready flows' names, .py files, or file.py:Class; a choice of ready ones when none is given.",
        metavar="FLOW",
    ),
]
Budget = Annotated[Optional[int], shared.BUDGET]
FlowSettings = Annotated[Optional[list[str]], shared.SETTINGS]
Batch = Annotated[int, Option(min=1, max=4096, help="Sequences decoded at once.")]
Contexts = Annotated[str, Option("--context", help="Context lengths of the speed measurement, separated by commas.")]
Rounds = Annotated[int, Option(min=1, max=10_000, help="Blocks full, flow, flow, full for each flow and context.")]
Steps = Annotated[int, Option(min=1, help="Measured steps in a block.")]
Items = Annotated[int, Option(min=1, max=10_000, help="Needles to find.")]
Length = Annotated[int, Option(help="Tokens of a needle's prompt.")]
Seed = Annotated[int, Option(help="Fixes the items.")]
KvDtype = Annotated[str, shared.KV_DTYPE]
Device = Annotated[str, Option(help="Where the model runs: cpu, or cuda for an NVIDIA GPU.")]
Deterministic = Annotated[
    bool,
    Option(
        "--deterministic",
        help="On a device, steps of one size: what a request is answered does not depend on its company; slower with few "
        "sequences. On the cpu it never does.",
    ),
]
StudySnapshots = Annotated[
    Optional[float],
    Option("--snapshots", min=0, help="Gigabytes of prefilled items to keep on disk; 8 on the CPU, none on a device."),
]
StudySuite = Annotated[str, Option("--suite", help="What items ask: needle, or ruler with --tasks.")]
StudyTasks = Annotated[
    str, Option("--tasks", help="Of --suite ruler: tasks separated by commas; eight of them when not given.")
]
ConfirmTasks = Annotated[
    str, Option(help="Of --suite ruler: tasks of the confirmation; those of the gates when not given.")
]
ConfirmLengths = Annotated[
    str, Option(help="Lengths of the confirmation's prompts, separated by commas; --length when not given.")
]
Snapshots = Annotated[float, Option(min=0, help="Gigabytes of prefilled items to keep on disk; 0: none.")]
Threads = Annotated[int, Option(min=0, max=4096, help="Threads; 0 for one per core.")]
Ledger = Annotated[
    Optional[str],
    Option(help="The file that what is measured is written to, VORTEX_LEDGER when not given; none: nowhere."),
]
LedgerFile = Annotated[
    Optional[str],
    Option(help="The file that holds the study, VORTEX_LEDGER when not given; none is refused."),
]
Json = Annotated[bool, shared.JSON]
TrustFlow = Annotated[bool, shared.TRUST_FLOW]


def ledger_file(path: str | None) -> str | None:
    """The file of a command that works on a study, which there is none of without a ledger."""
    if path == "none":
        raise UserError("--ledger", "a file: a study lives in a ledger", "none", "leave it out, or name a file")
    return path


def ledger_of(path: str | None):
    """An open ledger, or None when nothing is to be recorded."""
    from vortex_attention.ledger import Ledger

    return None if path == "none" else Ledger.open(path)


def numbers_of(text: str, option: str) -> list[int]:
    """ "1024,4096" → [1024, 4096]."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(option, "positive whole numbers, separated by commas", f"{text!r}", "for example 1024,4096")
    return numbers
