"""Whose claim is whose: renaming and deleting touch nobody else's files."""

from __future__ import annotations

from typing import Any

import pytest

from spawner.home_claim import names_person, names_server
from spawner.kube_api import KubeApi
from spawner.refusal import Refusal
from tests.spawner.kube_spawners import make


@pytest.mark.parametrize(
    ("template", "person", "server"),
    [
        ("claim-{username}", True, False),
        ("claim-{user_server}", True, True),
        ("home-{safe_username}--{safe_servername}", True, True),
        ("shared", False, False),
        ("homes-{hubnamespace}", False, False),
        ("scratch-{servername}", False, True),
    ],
)
def test_templates_are_understood(template: str, person: bool, server: bool) -> None:
    assert (names_person(template), names_server(template)) == (person, server)


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is deleted from here on."""
    names: list[str] = []

    async def delete_claim(self: KubeApi, namespace: str, name: str) -> None:
        names.append(name)

    monkeypatch.setattr(KubeApi, "delete_claim", delete_claim)
    return names


@pytest.mark.parametrize(
    ("server", "config", "gone"),
    [
        ("", {}, []),
        ("", {"delete_pvc": True}, ["claim-ann"]),
        ("two", {"delete_pvc": True}, []),
        ("two", {"delete_pvc": True, "pvc_name_template": "claim-{user_server}"}, ["claim-ann--two"]),
        ("", {"delete_pvc": True, "pvc_name_template": "everybody"}, []),
        ("", {"delete_pvc": True, "storage_pvc_ensure": False}, []),
    ],
    ids=["kept-by-default", "own", "shared-with-other-servers", "of-one-server", "shared-with-everybody", "no-claims"],
)
async def test_a_home_is_deleted_only_when_wanted_and_when_nobody_else_lies_on_it(
    monkeypatch: pytest.MonkeyPatch, deleted: list[str], server: str, config: dict[str, Any], gone: list[str]
) -> None:
    await make(monkeypatch, server=server, **config).delete_forever()
    assert deleted == gone


async def test_a_server_whose_home_bears_its_name_is_not_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, server="two", pvc_name_template="claim-{user_server}")
    await spawner.rename("two", "three")  # never started: there is no home yet
    spawner._pvc_exists = True
    with pytest.raises(Refusal) as caught:
        await spawner.rename("two", "three")
    assert caught.value.text == (
        "The server 'two' cannot be renamed, because its home has the same name. Make a new server."
    )


async def test_a_server_that_shares_the_persons_home_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = make(monkeypatch, server="two")
    spawner._pvc_exists = True
    await spawner.rename("two", "three")


async def test_a_state_of_an_old_kubespawner_is_still_old_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """kubespawner#937: otherwise the claim of the old name is never looked for, and the home is empty."""
    spawner = make(monkeypatch, name="ann@example.org")
    spawner.load_state({"pod_name": "jupyter-ann-40example-2eorg"})
    spawner.clear_state()
    stored = spawner.get_state()
    later = make(monkeypatch, name="ann@example.org")
    later.load_state(stored)
    assert later.claim_names() == ["claim-ann-example-org---" + later.pvc_name[-8:], "claim-ann-40example-2eorg"]
    later._pvc_exists = True
    assert later.claim_names() == [later.pvc_name]
