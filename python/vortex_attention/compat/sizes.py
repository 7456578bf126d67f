"""Sizes that a flow knows only when it meets a model: head_dim, kv_lora_rank, qk_rope_head_dim, the number of query heads.

A Size adds up, scales and compares like the whole number it stands for; where the number itself would be needed it refuses in
words. A power or a quotient of it is a Number, which an op takes as its setting.
"""

from fractions import Fraction

from vortex_attention.errors import UserError
from vortex_attention.language import place

SPOKEN = {"dim": "head_dim", "value_dim": "kv_lora_rank", "head": "the number of query heads"}


class Size:
    """A sum of symbols and a number, such as head_dim/2 or head_dim - kv_lora_rank."""

    __slots__ = ("assumed", "terms")

    def __init__(self, terms: dict[str, Fraction], assumed=None):
        self.terms = {symbol: Fraction(share) for symbol, share in terms.items() if share}
        self.assumed = assumed  # called with (size, number) when a flow claims what number it is

    def _of(self, terms: dict) -> "Size | int":
        out = Size(terms, self.assumed)
        if set(out.terms) <= {""} and out.terms.get("", Fraction(0)).denominator == 1:
            return int(out.terms.get("", 0))
        return out

    def _plus(self, other, sign: int):
        terms = other.terms if isinstance(other, Size) else {"": other} if isinstance(other, int) else None
        if terms is None:
            return NotImplemented
        return self._of(
            {
                symbol: self.terms.get(symbol, 0) + sign * Fraction(terms.get(symbol, 0))
                for symbol in {*self.terms, *terms}
            }
        )

    def __add__(self, other):
        return self._plus(other, 1)

    __radd__ = __add__

    def __sub__(self, other):
        return self._plus(other, -1)

    def __rsub__(self, other):
        return (self * -1)._plus(other, 1) if isinstance(other, int) else NotImplemented

    def __mul__(self, other):
        if isinstance(other, Size):
            self._refuse("a product of two sizes")
        if isinstance(other, int):
            return self._of({symbol: share * other for symbol, share in self.terms.items()})
        return Number(self, 1.0, float(other)) if isinstance(other, float) else NotImplemented

    __rmul__ = __mul__

    def __floordiv__(self, other):
        if not isinstance(other, int) or other < 1:
            self._refuse(f"// {other}")
        return self._of({symbol: share / other for symbol, share in self.terms.items()})

    def __mod__(self, other):
        if isinstance(other, int) and other >= 1:
            return 0  # what is cut by it is checked when the flow meets a model
        self._refuse(f"% {other}")

    def __pow__(self, power):
        return Number(self, float(power), 1.0)

    def __truediv__(self, other):
        return Number(self, 1.0, 1.0 / other)

    def __rtruediv__(self, other):
        return Number(self, -1.0, float(other))

    def __eq__(self, other):
        if isinstance(other, Size):
            return self.terms == other.terms
        if isinstance(other, int) and self.assumed is not None:
            self.assumed(self, other)
            return True
        return NotImplemented

    __hash__ = object.__hash__

    def __str__(self) -> str:
        parts = []
        for symbol, share in sorted(self.terms.items(), reverse=True):
            name = SPOKEN.get(symbol, symbol)
            text = f"{share.numerator}*{name}" if name and abs(share.numerator) != 1 else name or str(share.numerator)
            sign = "-" if share < 0 and abs(share.numerator) == 1 and name else ""
            parts.append(sign + text + (f"/{share.denominator}" if share.denominator != 1 else ""))
        return " + ".join(parts).replace("+ -", "- ")

    __repr__ = __str__

    def _refuse(self, came: str):
        raise UserError(
            place.text(),
            f"{self} is known when the flow meets a model: sums, multiples, // and == of it can be said",
            came,
            "say the number itself if the flow is for one kind of model",
        )

    def __bool__(self):
        return True

    def _number(self, *_):
        self._refuse("the number itself")

    __int__ = __index__ = __float__ = __lt__ = __le__ = __gt__ = __ge__ = _number


class Number:
    """factor · size ** power: a setting of an op, such as head_dim ** -0.5."""

    __slots__ = ("factor", "power", "size")

    def __init__(self, size: Size, power: float, factor: float):
        self.size, self.power, self.factor = size, power, factor

    def __mul__(self, other):
        return Number(self.size, self.power, self.factor * float(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return Number(self.size, self.power, self.factor / float(other))

    def __rtruediv__(self, other):
        return Number(self.size, -self.power, float(other) / self.factor)

    def __pow__(self, power):
        return Number(self.size, self.power * float(power), self.factor ** float(power))

    def __neg__(self):
        return Number(self.size, self.power, -self.factor)

    def _number(self, *_):
        self.size._refuse("a number made of it")

    __float__ = __int__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _number


def extent(text: str, page_size: int) -> "Size | int":
    """The size of an axis as types print it: "16", "token/2", "3*dim/2"."""
    factor, _, rest = text.rpartition("*")
    symbol, _, by = rest.partition("/")
    share = Fraction(int(factor or 1), int(by or 1))
    if symbol.isdigit():
        return int(symbol)
    if symbol == "token":
        return int(share * page_size)
    return Size({symbol: share})
