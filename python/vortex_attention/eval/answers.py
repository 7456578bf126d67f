"""Is a written answer right: what of a text is its answer, and whether it equals the expected one. `plain` compares text and
numbers and needs nothing; `math` asks math-verify, which is an extra."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation

from ..errors import UserError

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)")


def boxed(text: str) -> str | None:
    """What the last \\boxed{...} of the text holds."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for place in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip()
    return None


def plain_answer(text: str) -> str:
    """The boxed part, else what follows the last "answer is" or "answer:", else the last line that says something."""
    found = boxed(text)
    if found is not None:
        return found
    said = re.split(r"(?i)answer\s*(?:is|:)\s*:?\s*", text)
    lines = [line.strip() for line in said[-1].splitlines() if line.strip()]
    if len(said) > 1:
        return lines[0].rstrip(" .") if lines else ""
    return lines[-1].rstrip(" .") if lines else ""


def _number(text: str) -> Decimal | None:
    text = text.strip().strip("$").strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def plain(said: str, right: str) -> bool:
    """The same number, or the same words whatever case and spacing."""
    answer = plain_answer(said)
    ours, theirs = _number(answer), _number(right)
    if theirs is not None:
        if ours is None:
            numbers = _NUMBER.findall(answer)
            ours = _number(numbers[-1]) if numbers else None
        return ours == theirs
    return " ".join(answer.lower().split()) == " ".join(right.lower().split())


def math(said: str, right: str) -> bool:
    """Equal as mathematics, by math-verify; what does not parse is wrong."""
    math_verify = _math_verify()
    # Its time limits use signals, which only the main thread may; texts are bounded by the tokens that were decoded.
    expected = math_verify.parse(f"${right}$", parsing_timeout=None)
    return bool(math_verify.verify(expected, math_verify.parse(said, parsing_timeout=None), timeout_seconds=None))


def _math_verify():
    try:
        import math_verify
    except ImportError as error:
        why = (
            "it is not installed"
            if getattr(error, "name", None) == "math_verify"
            else f"it cannot be imported: {error}"
        )
        raise UserError("reasoning", "the package math-verify, to compare mathematics", why,
                        "pip install 'vortex-attention[reasoning]'") from error  # fmt: skip
    return math_verify


CHECKS: dict[str, Callable[[str, str], bool]] = {"plain": plain, "math": math}


def majority(said: Sequence[str], right: str, check: Callable[[str, str], bool]) -> bool:
    """Whether the answer given most often is right; the one given first wins a tie. Tries without an answer do not vote."""
    groups: dict[str, int] = {}
    for text in said:
        answer = plain_answer(text)
        if answer:
            value = _number(answer)
            key = f"{value.normalize():f}" if value is not None else " ".join(answer.lower().split())
            groups[key] = groups.get(key, 0) + 1
    if not groups:
        return False
    chosen = max(groups, key=lambda key: groups[key])
    return check(f"\\boxed{{{chosen}}}", right)


def pass_at(correct: Sequence[bool], k: int) -> float:
    """The unbiased chance that one of k tries is right, from n ≥ k of them (Chen et al., 2021, arXiv 2107.03374)."""
    n, c = len(correct), sum(correct)
    if not 1 <= k <= n:
        raise ValueError(f"pass_at: 1 ≤ k ≤ {n} is required; {k} came")
    if n - c < k:
        return 1.0
    missed = 1.0
    for i in range(n - c + 1, n + 1):
        missed *= 1.0 - k / i
    return 1.0 - missed
