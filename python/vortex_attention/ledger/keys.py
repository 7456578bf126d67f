"""What makes two measurements the same measurement. Accuracy follows from the flow, the model, the suite and the numerics
that computed it; speed also from machine and commit, so it has no key of this kind and is looked up by environment."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces. An infinity or NaN is stored as null, JSON has none."""
    return json.dumps(_finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def accuracy_key(
    *,
    ir_hash: str | None,
    ir_version: int | None,
    config: str | None,
    model_sha256: str,
    suite: str,
    settings: dict,
    numerics: str,
) -> str:
    """Equal keys have equal outcomes item by item. ir_hash: None for full attention. settings: all that fixes the suite's
    items and their scoring, seed and generator version included. numerics: what fixes rounding (engine, kernels' version,
    device kind, KV dtype)."""
    return digest(
        {
            "ir_hash": ir_hash,
            "ir_version": ir_version,
            "config": config,
            "model": model_sha256,
            "suite": suite,
            "settings": settings,
            "numerics": numerics,
        }
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):  # a NumPy scalar
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
