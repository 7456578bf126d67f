"""How a token is chosen, in NumPy and float64, written from docs/engine.md: what the engine's sampler is compared with."""

import numpy as np


def changed(logits, settings, prompt, answer) -> np.ndarray:
    """Logits with biases and penalties; a finite one stays finite."""
    z = np.array(logits, np.float64)
    most = float(np.finfo(np.float32).max)

    def stored(values):
        return np.where(
            np.isneginf(values), -np.inf, np.clip(values, -most, most).astype(np.float32).astype(np.float64)
        )

    for token, bias in settings.get("logit_bias", {}).items():
        z[token] = stored(z[token] + np.float64(np.float32(bias)))
    repetition = np.float64(np.float32(settings.get("repetition_penalty", 1.0)))
    presence = np.float64(np.float32(settings.get("presence_penalty", 0.0)))
    frequency = np.float64(np.float32(settings.get("frequency_penalty", 0.0)))
    for token in {*prompt, *answer}:
        value = z[token] / repetition if z[token] > 0 else z[token] * repetition
        count = list(answer).count(token)
        if count:
            value -= presence + frequency * count
        z[token] = stored(value)
    return z


def distribution(logits, settings, prompt=(), answer=()) -> np.ndarray | None:
    """Probabilities of the next token [vocabulary]; None: the logits are not numbers, or none may be chosen."""
    raw = np.array(logits, np.float64)
    if np.isnan(raw).any() or not np.isfinite(raw.max()):
        return None
    z = changed(logits, settings, prompt, answer)
    if np.isneginf(z.max()):
        return None
    by_rank = np.lexsort((np.arange(len(z)), -z))  # likeliest first, the lower token of equals
    temperature = np.float64(np.float32(settings.get("temperature", 0.0)))
    p = np.zeros(len(z))
    if temperature == 0:
        p[by_rank[0]] = 1.0
        return p
    with np.errstate(over="ignore", divide="ignore"):
        log_p = np.maximum((z - z.max()) / temperature, -1e300)  # up to a constant
    kept = by_rank[~np.isneginf(z[by_rank])]
    if settings.get("top_k", 0) > 0:
        kept = kept[: settings["top_k"]]
    if settings.get("typical_p", 1.0) < 1:
        share = np.exp(log_p[kept]) / np.exp(log_p[kept]).sum()
        surprise = np.log(np.exp(log_p[kept]).sum()) - log_p[kept]
        entropy = (share * np.where(share > 0, surprise, 0.0)).sum()
        order = np.lexsort((np.arange(len(kept)), np.abs(surprise - entropy)))
        kept = fewest(kept[order], log_p, settings["typical_p"])
        kept = kept[np.lexsort((kept, -z[kept]))]
    if settings.get("top_p", 1.0) < 1:
        kept = fewest(kept, log_p, settings["top_p"])
    if settings.get("min_p", 0.0) > 0:
        least = np.log(np.float64(np.float32(settings["min_p"])))
        kept = kept[log_p[kept] - log_p[kept[0]] >= least]
    p[kept] = np.exp(log_p[kept] - log_p[kept].max())
    return p / p.sum()


def fewest(ordered, log_p, share):
    """The first of them that hold `share` of their probability."""
    sums = np.cumsum(np.exp(log_p[ordered]))
    return ordered[: np.searchsorted(sums, np.float64(np.float32(share)) * sums[-1]) + 1]


def mixed(bits: int) -> int:
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
    return bits ^ (bits >> 31)


def uniform_of(seed: int, position: int) -> float:
    """The number that decides a draw; seed: of the request."""
    return (
        mixed((mixed((seed + 0x9E3779B97F4A7C15) % 2**64) + (position + 1) * 0xD1342543DE82EF95) % 2**64) >> 11
    ) / 2**53
