"""streaming: the start and the end of the sequence, nothing between."""

import vortex_attention as vx


class Streaming(vx.vFlow):
    """Attention sinks and a sliding window (Xiao et al., StreamingLLM, 2024): 64 tokens and the last 448."""

    page_size, sinks, recent = 16, 4, 28
    score = None
