"""Measured logits must be numbers: full attention's are not when the model's weights are damaged, a flow's alone are not when
we erred."""

import numpy as np

from ..errors import InternalError, UserError


def require_finite(logits: np.ndarray, where: str, *, full: bool) -> None:
    """where: the command, for the message. full: whether they are full attention's."""
    if np.isfinite(logits).all():
        return
    if full:
        raise UserError(
            where,
            "finite logits from full attention",
            "some are not",
            "the model's weights may be damaged: fetch them again",
        )
    raise InternalError(where, "finite logits where full attention's are", "some are not", "report this as a defect")
