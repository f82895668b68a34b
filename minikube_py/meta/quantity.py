"""Quantities: amounts of a resource in the notation of the API (500m, 1536Mi, 12e6), exact to a billionth.

A quantity is parsed to an integer number of billionths, which is exact for everything that the API accepts (finer amounts round away from
zero, as upstream does), and remembers the family of its suffix, so that it is written again in the same family. Values are immutable.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

NANO = 10**9
_MAX_BINARY = (2**63 - 1) * NANO
_MAX_EXPONENT = 400
"""Upstream accepts any exponent; here one beyond this is refused, since it stands for nothing and costs memory."""


_MAX_LENGTH = 256


class Format(enum.Enum):
    """The suffix family that a quantity is written in."""

    DECIMAL_EXPONENT = "DecimalExponent"
    BINARY_SI = "BinarySI"
    DECIMAL_SI = "DecimalSI"


class QuantityError(ValueError):
    """Not a quantity; the text is upstream's."""


FORMAT_WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX = "unable to parse quantity's suffix"

_SHAPE = re.compile(r"([+-]?)0*+([0-9]*+)(?:\.([0-9]*+))?([eEinumkKMGTP]*+[-+]?[0-9]*+)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_EXPONENT = re.compile(r"[eE][+-]?[0-9]+")


class Quantity:
    """An amount. Compares and adds exactly; `str()` is the canonical text."""

    __slots__ = ("_text", "format", "nano")

    def __init__(self, nano: int, format: Format = Format.DECIMAL_SI, text: str = "") -> None:
        self.nano, self.format, self._text = nano, format, text

    def value(self) -> int:
        """The amount in whole units, rounded away from zero."""
        return _divide_away(self.nano, NANO)

    def milli(self) -> int:
        """The amount in thousandths, rounded away from zero."""
        return _divide_away(self.nano, 10**6)

    def __str__(self) -> str:
        if not self._text:
            self._text = _canonical(self.nano, self.format)
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __hash__(self) -> int:
        return hash(self.nano)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nano == other.nano

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __le__(self, other: Quantity) -> bool:
        return self.nano <= other.nano

    def __gt__(self, other: Quantity) -> bool:
        return self.nano > other.nano

    def __ge__(self, other: Quantity) -> bool:
        return self.nano >= other.nano

    def __bool__(self) -> bool:
        return self.nano != 0

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.format)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, self.format if self.nano else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.format if self.nano else other.format)


def parse(value: str | int | float) -> Quantity:
    """The quantity that a JSON value stands for. Raises QuantityError."""
    return _parse(value if value.__class__ is str else number_text(value))


def canonical(value: str | int | float) -> str:
    """The text that the API server answers for a quantity written as `value`. Raises QuantityError."""
    return str(parse(value))


def of_value(value: int, format: Format = Format.DECIMAL_SI) -> Quantity:
    """A whole number of units."""
    return Quantity(value * NANO, format)


def of_milli(value: int, format: Format = Format.DECIMAL_SI) -> Quantity:
    """A number of thousandths."""
    return Quantity(value * 10**6, format)


def number_text(value: object) -> str:
    """A JSON number as text, without the exponent that Python gives to small and large floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


@lru_cache(maxsize=2048)
def _parse(text: str) -> Quantity:
    text = text.strip()
    if text == "0":
        return Quantity(0, text=text)
    shape = _SHAPE.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if not text or shape is None:
        raise QuantityError(FORMAT_WRONG)
    sign, number, fraction, suffix = shape.groups("")
    number = number or "0"
    format, power = _suffix(suffix)
    digits = int(number + fraction)
    if format is Format.BINARY_SI:
        amount, remainder = divmod(digits * 2**power * NANO, 10 ** len(fraction))
    else:
        scale = power - len(fraction) + 9
        amount, remainder = (digits * 10**scale, 0) if scale >= 0 else divmod(digits, 10**-scale)
    amount += bool(remainder)
    if format is Format.BINARY_SI:
        amount = min(amount, _MAX_BINARY)
    nano = -amount if sign == "-" else amount
    kept = text if _kept(format, power, number, fraction, digits) else ""
    if format is Format.BINARY_SI and 0 < amount < NANO:
        format = Format.DECIMAL_SI
    return Quantity(nano, format, kept)


def _suffix(suffix: str) -> tuple[Format, int]:
    """The family and the power of ten (of two for BinarySI) of a suffix."""
    if suffix in _DECIMAL:
        return Format.DECIMAL_SI, _DECIMAL[suffix]
    if suffix in _BINARY:
        return Format.BINARY_SI, _BINARY[suffix]
    if _EXPONENT.fullmatch(suffix) and abs(exponent := int(suffix[1:])) <= _MAX_EXPONENT:
        return Format.DECIMAL_EXPONENT, exponent if suffix[1] != "-" else -abs(exponent)
    raise QuantityError(SUFFIX)


def _kept(format: Format, power: int, number: str, fraction: str, digits: int) -> bool:
    """Whether the text is answered as it was written: upstream keeps what looks canonical at a glance (1.500 and +1 among it)."""
    if format is Format.BINARY_SI:
        return not fraction and 14 - len(number) - power * 3 // 10 >= 0 and digits & 7 != 0
    shifted, scale = number + fraction, power - len(fraction)
    return len(shifted) <= 18 and scale >= -9 and scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"


def _canonical(nano: int, format: Format) -> str:
    if nano == 0:
        return "0"
    if format is Format.BINARY_SI and nano % NANO == 0 and abs(nano) >= 1024 * NANO:
        amount, steps = nano // NANO, 0
        while steps < 6 and amount % 1024 == 0:
            amount, steps = amount // 1024, steps + 1
        return f"{amount}{_BINARY_SUFFIX[steps]}"
    amount, exponent = nano, -9
    while amount % 1000 == 0 and (exponent < 18 or format is Format.DECIMAL_EXPONENT):
        amount, exponent = amount // 1000, exponent + 3
    if format is Format.DECIMAL_EXPONENT:
        return f"{amount}e{exponent}" if exponent else str(amount)
    return f"{amount}{_DECIMAL_SUFFIX[exponent]}"


def _divide_away(amount: int, unit: int) -> int:
    return -(-amount // unit) if amount >= 0 else amount // unit
