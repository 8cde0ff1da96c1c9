"""Quantities: Kubernetes' rules, compared with the parser of its Python client where the two agree."""

import re
from decimal import ROUND_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity as client_parse

from profiles.quantities import QuantityError, format_cpu, format_memory, parse_quantity, say_memory

SUFFIXES = ("", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
NUMBERS = st.from_regex(re.compile(r"[+-]?([0-9]{1,6}(\.[0-9]{0,4})?|\.[0-9]{1,4})", re.ASCII), fullmatch=True)
EXPONENTS = st.builds("{}{}".format, st.sampled_from("eE"), st.integers(-12, 12))


def as_kubernetes_rounds(number: Decimal) -> Decimal:
    """What is finer than a billionth is rounded away from zero."""
    return number if number == round(number, 9) else number.quantize(Decimal("1e-9"), rounding=ROUND_UP)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+1.5", "1.5"),
        ("-1.5", "-1.5"),
        ("500m", "0.5"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
        ("1E", "1e18"),
        ("1k", "1000"),
        ("1Ki", "1024"),
        ("2Gi", "2147483648"),
        ("1.5Gi", "1610612736"),
        ("007", "7"),
        ("100n", "0.0000001"),
        ("0.1n", "0.000000001"),
        ("-0.1n", "-0.000000001"),
        ("7Ei", "8070450532247928832"),
    ],
)
def test_what_kubernetes_reads(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "-",
        ".",
        "+.",
        "Ki",
        "m",
        "1 Gi",
        " 1",
        "1 ",
        "1\n",
        "1ki",
        "1K",
        "1KI",
        "1GB",
        "1gi",
        "1Gib",
        "1_000",
        "NaN",
        "nan",
        "inf",
        "Infinity",
        "-inf",
        "١",
        "１",
        "1,5",
        "1.5.5",
        "--1",
        "1e",
        "1e+",
        "1e1.5",
        "1e3Ki",
        "0x10",
        "1mi",
        "1ni",
        "1e1000",
        "8Ei",
        "1e30",
        "1" * 65,
        "9" * 20,
        "abc",
        "1Gi2",
        "²",
    ],
)
def test_what_kubernetes_does_not_read(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), True, False, 2**63]
)
def test_numbers_that_are_no_quantity(number: float | Decimal) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(number)


@pytest.mark.parametrize(
    ("number", "value"), [(1, "1"), (0.1, "0.1"), (1.5, "1.5"), (1e-3, "0.001"), (Decimal("2.50"), "2.5"), (-3, "-3")]
)
def test_numbers_mean_the_digits_that_were_written(number: float | Decimal, value: str) -> None:
    assert parse_quantity(number) == Decimal(value)


@given(NUMBERS, st.one_of(st.sampled_from(SUFFIXES), EXPONENTS))
def test_agrees_with_the_client_on_every_legal_quantity(number: str, suffix: str) -> None:
    expected = client_parse(number + suffix)
    if abs(expected) > 2**63 - 1:
        with pytest.raises(QuantityError):
            parse_quantity(number + suffix)
    else:
        assert parse_quantity(number + suffix) == as_kubernetes_rounds(expected)


@given(st.one_of(st.text(max_size=12), st.text("0123456789.+-eEinumkKMGTP _", max_size=12)))
def test_accepts_nothing_that_the_client_refuses_and_refuses_only_what_go_refuses(text: str) -> None:
    try:
        expected: Decimal | None = client_parse(text)
    except ValueError:
        expected = None
    try:
        ours: Decimal | None = parse_quantity(text)
    except QuantityError:
        ours = None
    if ours is not None:
        assert expected is not None
        assert ours == as_kubernetes_rounds(expected)
    elif expected is not None:
        exponent_and_suffix = re.search(r"[eE][+-]?\d+[numkKMGTPEi]", text)
        beyond = not expected.is_finite() or abs(expected) > 2**63 - 1
        long_exponent = re.search(r"[eE][+-]?\d{4}", text)
        capital_kilo = text.endswith("K")
        odd_character = re.search(r"[^0-9.+\-a-zA-Z]", text)
        assert exponent_and_suffix or beyond or long_exponent or capital_kilo or odd_character


@given(st.integers(0, 2**62))
def test_memory_survives_being_written_and_read(size: int) -> None:
    assert parse_quantity(format_memory(size)) == size


@given(st.integers(1, 10_000_000))
def test_cpu_survives_being_written_and_read(thousandths: int) -> None:
    cores = Decimal(thousandths) / 1000
    assert parse_quantity(format_cpu(cores)) == cores


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1000, "1000"), (1024, "1Ki"), (1536 * 2**20, "1536Mi"), (2 * 2**30, "2Gi"), (10**9, "1000000000")],
)
def test_memory_in_the_largest_unit_that_loses_nothing(size: int, text: str) -> None:
    assert format_memory(size) == text


@pytest.mark.parametrize(
    ("cores", "text"), [("2", "2"), ("0.5", "500m"), ("1.25", "1250m"), ("0.0001", "1m"), ("10", "10")]
)
def test_cpu_as_kubernetes_writes_it(cores: str, text: str) -> None:
    assert format_cpu(Decimal(cores)) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (512, "512 bytes"), (2 * 2**30, "2 GiB"), (1536 * 2**20, "1.5 GiB"), (40 * 10**9, "37.25 GiB")],
)
def test_memory_for_people(size: int, text: str) -> None:
    assert say_memory(size) == text


@pytest.mark.parametrize(
    ("text", "meant"), [("2GB", "2G"), ("2 Gi", "2Gi"), ("512mb", "512M"), ("4gi", "4Gi"), ("1K", "1k")]
)
def test_common_slips_are_answered_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(QuantityError, match=re.escape(f"did you mean {meant}?")):
        parse_quantity(text)


def test_a_long_text_is_not_repeated_whole() -> None:
    with pytest.raises(QuantityError) as refused:
        parse_quantity("9" * 1_000_000)
    assert len(str(refused.value)) < 300
