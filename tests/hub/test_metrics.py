"""The list of metrics is the whole list, says what each means, and has no label that people could fill."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from sqlalchemy import Engine, select, update

from docs.generate import metrics as docs
from hub import metrics
from hub.admission import reservations, tickets
from hub.admission.doors import Waits
from hub.backup.note import note
from hub.controller.figures import figures
from hub.controller.metrics import StatusMetrics, show
from hub.controller.status import Status
from hub.db.clock import Now
from hub.db.tables import audit as audit_table
from hub.db.tables import ledger as ledger_table
from hub.db.tables import tickets as ticket_table
from hub.metrics import DECISIONS, READ, SERVICE, Figures
from hub.secret import ConfigError, metrics_token
from hub.settings import Settings
from hub.settings.sections import HubSettings
from hub.web.measures import Measures
from spawner.refusal import Refusal
from tests.hub.admission_world import CATALOGUE, Site
from tests.hub.hub_double import HubDouble

_LABELS = {
    "accelerator",
    "answer",
    "because",
    "code",
    "door",
    "kind",
    "method",
    "outcome",
    "path",
    "profile",
    "state",
    "status",
}


def families(registry: CollectorRegistry) -> Iterator[Metric]:
    for family in registry.collect():
        if family.name.startswith("armillary_"):
            yield family


def named(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_every_metric_of_the_process_is_in_the_list_with_its_text() -> None:
    listed = {one.name: one for one in metrics.table()}
    found = list(families(REGISTRY))
    assert len(found) >= 15
    for family in found:
        assert listed[named(family)].text == family.documentation
        assert listed[named(family)].kind == family.type


def test_what_a_service_and_a_controller_show_is_in_the_list_with_its_text() -> None:
    listed = {one.name: one for one in SERVICE}
    registry = CollectorRegistry()
    registry.register(StatusMetrics(Status(15, epoch=1, renewed_at=0.0, published_at=0.0)))
    shown = [*families(Measures().registry), *families(registry)]
    assert {named(family) for family in shown} >= {"armillary_service_answers_total", "armillary_controller_leading"}
    for family in shown:
        assert listed[named(family)].text == family.documentation


def test_names_are_told_apart_and_say_their_unit_and_labels_are_few() -> None:
    names = [one.name for one in metrics.table()]
    assert len(names) == len(set(names))
    for one in metrics.table():
        assert re.fullmatch(r"armillary_[a-z_]+", one.name)
        assert set(one.labels) <= _LABELS, one.name
        assert one.text.endswith(".")
        if one.kind == "histogram":
            assert one.name.endswith("_seconds"), one.name


def test_the_page_names_every_metric_and_every_kind_of_repair() -> None:
    page = docs.page()
    assert all(f"`{one.name}`" in page for one in metrics.table())
    assert "`session-without-server`" in page


def test_figures_are_shown_while_they_are_known_and_gone_afterwards() -> None:
    shown = Figures()
    assert list(shown.collect()) == []
    shown.show({"armillary_start_slots": ((("taken",), 2.0), (("total",), 8.0))})
    registry = CollectorRegistry()
    registry.register(shown)
    assert b'armillary_start_slots{state="taken"} 2.0' in generate_latest(registry)
    shown.show({})
    assert list(shown.collect()) == []


# --- what is counted -------------------------------------------------------------------------------------------------


@pytest.fixture
def site(database: Engine) -> Site:
    return Site(database, HubDouble())


def value(name: str, read: Any, **labels: str) -> float:
    samples = dict(read)[name]
    wanted = next(one for one in READ if one.name == name).labels
    return float(
        sum(number for values, number in samples if dict(zip(wanted, values, strict=True)).items() >= labels.items())
    )


def test_the_figures_of_the_queue_and_of_what_is_held_are_those_of_the_database(site: Site) -> None:
    site.ask("ann")
    site.write(lambda found: found.execute(update(ticket_table).values(state="ended")))
    site.ask("bob", count=1)
    waits = site.ask("cleo", count=2)
    assert isinstance(waits, Waits)
    site.write(lambda found: found.execute(update(ticket_table).values(asked_at=Now() - 100.0)))
    read = site.read(lambda found: figures(found, 8, CATALOGUE))
    assert set(read) == {one.name for one in READ}
    assert value("armillary_queue_tickets", read.items(), state="waiting", accelerator="card") == 1
    assert value("armillary_queue_tickets", read.items(), state="starting") == 1
    assert value("armillary_queue_oldest_seconds", read.items()) == pytest.approx(100, abs=30)
    assert value("armillary_start_slots", read.items(), state="taken") == 1
    assert value("armillary_start_slots", read.items(), state="total") == 8
    assert value("armillary_holds", read.items(), state="granted") == 2
    assert value("armillary_ledger_open_rows", read.items()) == 2
    assert value("armillary_sessions", read.items()) == 0
    [first, _] = [one.id for one in site.read(reservations.all)]
    site.write(lambda found: reservations.mark_seen(found, [first]))
    read = site.read(lambda found: figures(found, 8, CATALOGUE))
    assert value("armillary_sessions", read.items(), profile="gpu", accelerator="card") == 1
    assert value("armillary_usage_cards", read.items(), accelerator="card") == 1


def test_the_age_of_the_newest_copy_is_that_of_its_entry_in_the_audit_trail(site: Site, tmp_path: Path) -> None:
    def ages() -> list[float]:
        samples = site.read(lambda found: figures(found, 8, CATALOGUE))["armillary_backup_age_seconds"]
        return [number for _, number in samples]

    assert ages() == []
    for name in ("one", "two"):
        assert note(site.database, tmp_path / name, 7) == ""
        site.write(lambda found: found.execute(update(audit_table).values(at=audit_table.c.at - 500)))
    assert ages() == [pytest.approx(500, abs=30)]
    assert value("armillary_audit_entries", site.read(lambda found: figures(found, 8, CATALOGUE)).items()) == 2


def test_the_age_of_the_oldest_heartbeat_is_that_of_sessions_that_run(site: Site) -> None:
    site.ask("ann")
    site.ask("bob")
    [first, second] = [one.id for one in site.read(reservations.all)]
    late = update(ledger_table).values(beat_at=Now() - 90.0)
    site.write(lambda found: found.execute(late))
    assert value("armillary_ledger_oldest_heartbeat_seconds", site.read(
        lambda found: figures(found, 8, CATALOGUE)).items()) == 0  # fmt: skip
    site.write(lambda found: reservations.mark_seen(found, [first]))
    read = site.read(lambda found: figures(found, 8, CATALOGUE))
    assert value("armillary_ledger_oldest_heartbeat_seconds", read.items()) == pytest.approx(90, abs=30)
    assert second != first


def test_an_accelerator_that_the_catalogue_has_no_more_makes_no_label(site: Site) -> None:
    site.ask("ann")
    site.write(lambda found: found.execute(update(ticket_table).values(accelerator="x" * 40)))
    read = site.read(lambda found: figures(found, 8, CATALOGUE))
    assert value("armillary_queue_tickets", read.items(), accelerator="none") == 1


async def test_decisions_are_counted_by_door_answer_and_code(site: Site) -> None:
    def counted(answer: str, code: str = "") -> float:
        return float(DECISIONS.labels("hub", answer, code)._value.get())

    before = counted("admitted"), counted("queued"), counted("refused", "quota-servers")
    await site.at_the_hub("ann", count=2)
    with pytest.raises(Refusal, match="in line"):
        await site.at_the_hub("bob")
    site.limit("user:cleo", "servers", 0)
    with pytest.raises(Refusal):
        await site.at_the_hub("cleo")
    after = counted("admitted"), counted("queued"), counted("refused", "quota-servers")
    assert [one - other for one, other in zip(after, before, strict=True)] == [1, 1, 1]
    assert site.read(lambda found: found.scalar(select(ticket_table.c.user_name))) == "bob"
    assert len(site.read(tickets.waiting)) == 1


# --- who may read them -----------------------------------------------------------------------------------------------


@pytest.fixture
def shown() -> Iterator[str]:
    server = show(0, "m3tr1cs-t0k3n-0001")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(None, 401, id="nothing"),
        pytest.param("Bearer m3tr1cs-t0k3n-0001", 200, id="bearer"),
        pytest.param("token m3tr1cs-t0k3n-0001", 200, id="token"),
        pytest.param("Bearer m3tr1cs-t0k3n-0002", 401, id="another"),
        pytest.param("Bearer", 401, id="empty"),
        pytest.param("Basic m3tr1cs-t0k3n-0001", 401, id="basic"),
        pytest.param("Bearer \xfc", 401, id="not-ascii"),
    ],
)
def test_a_controller_of_its_own_tells_only_who_has_the_token(shown: str, said: str | None, status: int) -> None:
    headers = {} if said is None else {b"Authorization": said.encode("latin-1")}
    answer = httpx.get(f"{shown}/metrics", headers=headers)
    assert answer.status_code == status
    assert ("armillary_decisions_total" in answer.text) == (status == 200)


def test_a_probe_needs_no_token_and_is_told_nothing(shown: str) -> None:
    assert (httpx.get(f"{shown}/health").status_code, httpx.get(f"{shown}/health").text) == (200, "ok\n")
    assert httpx.get(f"{shown}/other").status_code == 404


def test_without_a_token_nobody_is_told_unless_none_is_needed() -> None:
    for need_token, status in ((True, 401), (False, 200)):
        server = show(0, "", need_token=need_token)
        try:
            answer = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics", headers={"Authorization": "Bearer x"})
            assert answer.status_code == status
        finally:
            server.shutdown()
            server.server_close()


def test_the_token_is_that_of_the_file_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    assert metrics_token(settings) == ""
    settings.paths.metrics_token.parent.mkdir()
    settings.paths.metrics_token.write_text("0123456789abcdef0123\n")
    assert metrics_token(settings) == "0123456789abcdef0123"
    assert metrics_token(settings.model_copy(update={"hub": HubSettings(metrics_need_token=False)})) == ""
    named = settings.model_copy(update={"hub": HubSettings(metrics_token_file=tmp_path / "absent")})
    with pytest.raises(ConfigError, match=r"hub\.metrics_token_file: the file .*absent cannot be read"):
        metrics_token(named)
    (tmp_path / "absent").write_text("short")
    with pytest.raises(ConfigError, match=r"hub\.metrics_token_file: .*absent holds no token"):
        metrics_token(named)
