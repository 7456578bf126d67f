"""Ready flows as they can run: those with learned parameters get random numbers for them, the same in all layers."""

import numpy as np
from vortex_attention import flows


def ready(name: str, head_dim: int):
    program = flows.ready(name)
    if not program.parameters:
        return program
    random = np.random.default_rng(0)
    return program.with_weights(
        {parameter: random.standard_normal((head_dim, 16)).astype(np.float32) for parameter in program.parameters}
    )
