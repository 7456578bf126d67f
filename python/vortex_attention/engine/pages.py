"""Physical pages: what an engine stores KV in. A flow's pages are made of whole ones."""

import math
from collections.abc import Iterable

LARGEST = 16


def pinned(config) -> tuple[int, int]:
    """Pages at the start and at the end that a flow with these settings attends whatever the score; the last one it always does."""
    return config.sinks, max(config.recent, 1)


def physical_page_size(page_sizes: Iterable[int]) -> int:
    """The tokens of the largest physical page, at most 16, that the pages of all these flows are made of. There is one for
    any sizes, so a flow that is right runs; small ones cost speed."""
    return math.gcd(LARGEST, *page_sizes)
