"""Limits for tests, written as in a file of quotas."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from hub.quotas.amounts import parse_amount
from hub.quotas.model import WINDOWS, Field, QuotaRow, Quotas, parse_field

__all__ = ["FIELDS", "KINDS", "SUBJECTS", "amounts", "quotas", "some_quotas"]

KINDS = ("t4", "a100-1g.5gb")
FIELDS = tuple(
    parse_field(field)
    for field in (
        "servers",
        "accelerators",
        *(f"accelerators:{kind}" for kind in KINDS),
        "cpu",
        "memory",
        *(f"hours:{window}" for window in WINDOWS),
        *(f"hours:{window}:{kind}" for window in WINDOWS for kind in KINDS),
        "session_s",
        "queued",
        "jobs",
    )
)
SUBJECTS = ("default", "user:ann", "user:ben", "member:cms", "member:atlas", "group:cms", "group:atlas")


def quotas(limits: Mapping[str, Mapping[str, object]]) -> Quotas:
    """`{"default": {"servers": 2}}` as limits."""
    rows = []
    for subject, written in limits.items():
        for text, value in written.items():
            field = parse_field(text)
            rows.append(QuotaRow(subject, field, parse_amount(field, value)))
    return Quotas(rows)


def amounts(field: Field) -> st.SearchStrategy[object]:
    """Values that are legal for a field, `unlimited` among them."""
    if field in ("accelerators", "cpu") or field.startswith("hours"):
        numbers: st.SearchStrategy[object] = st.integers(0, 10**6).map(lambda thousandths: thousandths / 1000)
    else:
        numbers = st.integers(0, 10**6)
    return st.one_of(numbers, st.just("unlimited"))


@st.composite
def some_quotas(draw: st.DrawFn) -> Quotas:
    """Some limits of some subjects."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(FIELDS)), unique=True, max_size=30))
    return Quotas(QuotaRow(subject, field, parse_amount(field, draw(amounts(field)))) for subject, field in pairs)
