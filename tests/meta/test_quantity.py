"""Quantities: what the API answers for what is written, and exact arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.meta import quantity
from minikube_py.meta.quantity import FORMAT_WRONG, SUFFIX, Format, QuantityError, canonical, parse


@pytest.mark.parametrize(
    ("written", "answered"),
    [
        ("0", "0"),
        ("0.5", "500m"),
        (0.5, "500m"),
        (2, "2"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("2000Mi", "2000Mi"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1500M", "1500M"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("0.5Ki", "512"),
        ("1Ki", "1Ki"),
        ("1.1Mi", "1153433600m"),
        ("0.1m", "100u"),
        ("0.0000000001", "1n"),
        ("-1.5", "-1500m"),
        (" 1 ", "1"),
        ("1.500", "1.500"),  # upstream keeps what looks canonical at a glance
        ("+1", "+1"),
        ("9223372036854775807Ei", "9223372036854775807"),
    ],
)
def test_canonical_form(written: str | float, answered: str) -> None:
    assert canonical(written) == answered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", FORMAT_WRONG),
        ("a", FORMAT_WRONG),
        ("1x", FORMAT_WRONG),
        ("1.2.3", FORMAT_WRONG),
        ("1 Gi", FORMAT_WRONG),
        ("1KK", SUFFIX),
        ("1e", SUFFIX),
        ("1i", SUFFIX),
        ("1e999999999", SUFFIX),
    ],
)
def test_what_is_no_quantity(text: str, message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_whole_numbers_round_away_from_zero() -> None:
    assert parse("1500m").value() == 2
    assert parse("-1500m").value() == -2
    assert parse("0.1m").milli() == 1
    assert parse("-0.1m").milli() == -1
    assert parse("250m").milli() == 250
    assert parse("1Gi").value() == 1 << 30


def test_sums_keep_the_notation_of_the_first_that_is_not_zero() -> None:
    assert str(parse("0") + parse("1Gi") + parse("512Mi")) == "1536Mi"
    assert str(parse("1") - parse("250m")) == "750m"
    assert str(-parse("1Gi")) == "-1Gi"
    assert parse("1Gi") > parse("1G")
    assert parse("1000m") == parse("1") and hash(parse("1000m")) == hash(parse("1"))
    assert not quantity.of_value(0) and quantity.of_milli(1)


_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "e3": 3, "E-2": -2}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}


@st.composite
def written(draw: st.DrawFn) -> tuple[str, Fraction]:
    """A quantity that needs no rounding, and what it is."""
    suffix = draw(st.sampled_from([*_SUFFIXES, *_BINARY]))
    digits = draw(st.integers(0, 10**6))
    places = draw(st.integers(0, 2)) if suffix not in ("n", "u", "E-2") else 0
    sign = draw(st.sampled_from(["", "-", "+"]))
    number = f"{digits:0{places + 1}d}"
    text = f"{number[:-places]}.{number[-places:]}" if places else number
    unit = Fraction(2) ** _BINARY[suffix] if suffix in _BINARY else Fraction(10) ** _SUFFIXES[suffix]
    return f"{sign}{text}{suffix}", Fraction(digits, 10**places) * unit * (-1 if sign == "-" else 1)


@given(written())
def test_parsing_is_exact(case: tuple[str, Fraction]) -> None:
    text, value = case
    assert Fraction(parse(text).nano, quantity.NANO) == value


@given(written())
def test_the_canonical_form_stands_for_the_same_and_is_stable(case: tuple[str, Fraction]) -> None:
    text, _ = case
    once = canonical(text)
    assert parse(once) == parse(text)
    assert canonical(once) == once


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(list(Format)))
def test_formatting_and_parsing_are_inverse(milli: int, format: Format) -> None:
    assert parse(str(quantity.of_milli(milli // 1000 * 1000, format))) == quantity.of_milli(milli // 1000 * 1000)
    assert parse(str(quantity.of_milli(milli))) == quantity.of_milli(milli)
