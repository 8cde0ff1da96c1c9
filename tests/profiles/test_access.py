"""Who may start what, and what the others are told."""

import pytest

from profiles.access import Person, reason_not_allowed
from profiles.model import Access

ANN = Person("ann", frozenset({"physics", "cms"}))
EVERYONE = Access(everyone=True)


@pytest.mark.parametrize(
    ("access", "reason"),
    [
        pytest.param(EVERYONE, None, id="everyone"),
        pytest.param(Access(groups=("cms",)), None, id="in the group"),
        pytest.param(Access(groups=("atlas", "cms")), None, id="in one of the groups"),
        pytest.param(Access(users=("ann",)), None, id="named"),
        pytest.param(Access(groups=("atlas",), users=("ann",)), None, id="named though in no group"),
        pytest.param(Access(groups=("atlas",)), "needs group atlas", id="not in the group"),
        pytest.param(
            Access(groups=("atlas", "lhcb")), "needs one of the groups atlas, lhcb", id="in none of the groups"
        ),
        pytest.param(Access(groups=("CMS",)), "needs group CMS", id="case counts"),
        pytest.param(Access(users=("bob",)), "for certain users only", id="others are not named"),
        pytest.param(
            Access(groups=("atlas",), users=("bob",)), "needs group atlas", id="others are not named beside a group"
        ),
    ],
)
def test_reason(access: Access, reason: str | None) -> None:
    assert reason_not_allowed(access, ANN) == reason


def test_administrators_may_everything() -> None:
    assert reason_not_allowed(Access(groups=("atlas",)), Person("root", admin=True)) is None


def test_a_user_is_no_group() -> None:
    assert reason_not_allowed(Access(groups=("ann",)), Person("ann")) == "needs group ann"
