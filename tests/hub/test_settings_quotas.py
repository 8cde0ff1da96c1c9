"""The section `quotas` of the settings: what it takes, and what it refuses with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.settings import SettingsError, load


def written(folder: Path, text: str) -> Path:
    file = folder / "armillary.yaml"
    file.write_text(text)
    return file


def test_without_a_word_nothing_is_limited_and_days_are_those_of_utc(tmp_path: Path) -> None:
    quotas = load(written(tmp_path, ""), {}).quotas
    assert quotas.file is None
    assert str(quotas.zone) == "UTC"
    assert quotas.warn_at == (0.8, 0.95)


def test_everything_can_be_said(tmp_path: Path) -> None:
    text = """\
quotas:
  file: quotas.yaml
  timezone: Europe/Rome
  accounts: [group:cms, user, "group:urn:mace:egi.eu:group:lab"]
  half_life_days: 14
  weights: {"group:cms": 2, "user:ann": 0.5}
  warn_at: [0.5]
  leaders: {cms-leaders: [cms, cms-students]}
"""
    quotas = load(written(tmp_path, text), {}).quotas
    assert quotas.file == tmp_path / "quotas.yaml"
    assert quotas.accounts == ("group:cms", "user", "group:urn:mace:egi.eu:group:lab")
    assert quotas.weights == {"group:cms": 2, "user:ann": 0.5}
    assert quotas.leaders == {"cms-leaders": ("cms", "cms-students")}


def test_a_mapping_of_lists_can_be_set_by_its_variable(tmp_path: Path) -> None:
    environ = {
        "ARMILLARY_QUOTAS__LEADERS": "{cms-leaders: [cms, lhcb]}",
        "ARMILLARY_QUOTAS__ACCOUNTS": "group:cms,user",
    }
    quotas = load(written(tmp_path, ""), environ).quotas
    assert quotas.leaders == {"cms-leaders": ("cms", "lhcb")}
    assert quotas.accounts == ("group:cms", "user")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("timezone: Europe/Roma", "is no time zone that this machine knows; write one such as UTC or Europe/Rome"),
        ("timezone: ../UTC", "is no time zone"),
        ("timezone: Europe", "is no time zone"),
        ("accounts: [cms]", "'cms' cannot stand here; legal: group:NAME, user"),
        ("accounts: [user:ann]", "'user:ann' cannot stand here"),
        ("accounts: ['group:']", "'group:' cannot stand here"),
        ("accounts: [user, user]", "user is there twice"),
        ("half_life_days: 0", "greater than 0"),
        ("weights: {cms: 1}", "'cms' is no account; legal: user:NAME, group:GROUP"),
        ("weights: {'group:cms': 0}", "greater than 0"),
        ("warn_at: [0.9, 0.8]", "must rise: each part above the one before"),
        ("warn_at: [0.8, 0.8]", "must rise"),
        ("warn_at: [1.0]", "less than 1"),
        ("leaders: {a: b}", "must be a list"),
        ("grace: 5", "unknown key"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path, f"quotas:\n  {line}\n"), {})
    assert said in str(refused.value)
    assert "armillary.yaml:2:" in str(refused.value)
