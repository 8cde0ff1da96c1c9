"""Quantities in Kubernetes' notation: `1.5`, `500m`, `2Gi`, `1e3`.

The rules are those of Kubernetes' own Go parser (apimachinery, `pkg/api/resource/quantity.go`), which decides what an
API server accepts. The Python client is laxer: it lets Python's `Decimal` read the digits, and so takes `1 Gi`, `1K`,
`1_000`, `NaN`, digits of other scripts and `1e3Ki`, which an API server refuses. Stricter than Go in three things,
each of them a slip of the pen: a text without any digit (Go reads `Ki` or `+` as 0), a number beyond 2^63-1 (Go cuts
it off silently), and an exponent of more than three digits.
"""

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

__all__ = ["QuantityError", "format_cpu", "format_memory", "parse_quantity", "say_memory"]

_TEXT = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
    r"(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]{1,3}))?"
)
_LONGEST = 64
_LARGEST = 2**63 - 1
_FINEST = Decimal("1e-9")

_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_SAID = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

# Enough digits for every text of _LONGEST characters times 2^60, so that nothing is rounded but by intent.
_EXACT = Context(prec=400)


class QuantityError(ValueError):
    """The text or number is no Kubernetes quantity; the message says why and shows legal ones."""


def parse_quantity(value: str | int | float | Decimal) -> Decimal:
    """The number that a quantity stands for (cores, bytes, pieces).

    Negative quantities are legal in Kubernetes and here; whoever means a size refuses them. As in Go, what is finer
    than a billionth is rounded away from zero.

    Raises:
        QuantityError: not a quantity.
    """
    if isinstance(value, bool):
        raise QuantityError(f"{value} is no quantity; write a number such as 2, 1.5, 500m or 2Gi")
    if isinstance(value, str):
        number = _read(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))  # the digits that were written, not the binary fraction next to them
    else:
        number = Decimal(value)
    if not number.is_finite():
        raise QuantityError(f"{value} is no quantity; write a finite number")
    if abs(number) > _LARGEST:
        raise QuantityError(f"{_shown(value)} is beyond the largest quantity that Kubernetes knows, 2^63-1")
    if number.as_tuple().exponent >= -9:  # type: ignore[operator]  # an int, as the number is finite
        return number
    return number.quantize(_FINEST, rounding=ROUND_CEILING if number > 0 else ROUND_FLOOR, context=_EXACT)


def _read(text: str) -> Decimal:
    match = _TEXT.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise QuantityError(f"{_shown(text)} is no quantity; write one such as 2, 1.5, 500m, 2Gi or 1e3{_hint(text)}")
    number, suffix, exponent = Decimal(match["number"]), match["suffix"], match["exponent"]
    if exponent is not None:
        return _EXACT.scaleb(number, int(exponent))
    if suffix in _BINARY:
        return _EXACT.multiply(number, Decimal(1024 ** _BINARY[suffix]))
    if suffix in _DECIMAL:
        return _EXACT.scaleb(number, _DECIMAL[suffix])
    return number


def _hint(text: str) -> str:
    """What the writer probably meant, for the slips that are seen most."""
    slip = r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtTpP])(i?)[bB]?\s*"
    match = re.fullmatch(slip, text) if len(text) <= _LONGEST else None
    if match is None:
        return ""
    number, letter, binary = match.groups()
    meant = number + letter.upper() + "i" if binary else number + ("k" if letter in "kK" else letter.upper())
    return f" (did you mean {meant}?)"


def _shown(value: object) -> str:
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def format_cpu(cores: Decimal) -> str:
    """Cores as Kubernetes writes them: `2`, `500m`; a fraction finer than a thousandth, which Kubernetes refuses, is
    rounded up."""
    thousandths = int(_EXACT.multiply(cores, Decimal(1000)).to_integral_value(rounding=ROUND_CEILING))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def format_memory(size: int) -> str:
    """Bytes in the largest binary unit that loses nothing: `2Gi`, `1536Mi`, `1000`."""
    for suffix, power in reversed(_BINARY.items()):
        unit = 1024**power
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def say_memory(size: int) -> str:
    """Bytes for people, rounded to two digits after the point: `2 GiB`, `1.5 GiB`, `512 bytes`."""
    power = 0
    while power < len(_SAID) - 1 and abs(size) >= 1024 ** (power + 1):
        power += 1
    number = f"{Decimal(size) / 1024**power:.2f}".rstrip("0").rstrip(".")
    return f"{number} {_SAID[power]}"
