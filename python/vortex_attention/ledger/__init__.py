"""One file of everything that was measured, append-only and safe for many processes. See docs/ledger.md.

ledger = Ledger.open()                                   # VORTEX_LEDGER, or a path
with ledger.run("accuracy", suite="needle", model=..., settings=...) as run:
    arm = run.arm("quest", program)
    run.add_outcomes([(arm, "needle-0", Outcome({"exact": True}, observed), None)])
"""

from vortex_attention.ledger.keys import accuracy_key, canonical_json, digest
from vortex_attention.ledger.run import Arm, Block, Outcome, Run
from vortex_attention.ledger.store import Ledger, default_path

__all__ = ["Arm", "Block", "Ledger", "Outcome", "Run", "accuracy_key", "canonical_json", "default_path", "digest"]
