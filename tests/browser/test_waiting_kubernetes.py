"""Sessions that wait, are warned, kept, switched and ended, on a real Kubernetes: pods of our own image.

The node has the cards by a patch.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import waiting
from tests.browser.test_capacity_kubernetes import cards, people
from tests.browser.waiting import SETTINGS
from tests.cluster.served_hub import ServedHub
from tests.lab import kubernetes

# It needs the cluster, so it is of the tier that has one.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
CARDS = {"wait.lab.test/t4": "1", "wait.lab.test/slice": "7", "wait.lab.test/fpga": "1"}


def catalogue(image: str) -> dict[str, object]:
    """One kind of each, which only the real node has."""
    kinds = {
        "t4": {"title": "T4", "kubernetes": {"resource": "wait.lab.test/t4"}},
        "slice": {"title": "A100 slice", "share": "1/7", "kubernetes": {"resource": "wait.lab.test/slice"}},
        "fpga": {"title": "Alveo U55c", "kubernetes": {"resource": "wait.lab.test/fpga"}},
    }
    often = {"cpu_guarantee": 0.1, "mem_guarantee": "256M", "environment": {"ARMILLARY_MEASURE_SECONDS": "2"}}
    options = {"image": "base", "accelerator": ["none", *kinds]}
    return {
        "accelerators": kinds,
        "images": {"base": {"title": "JupyterLab", "reference": image, "default_url": "/lab"}},
        "profiles": {"jupyterlab": {"title": "JupyterLab", "options": options, "kubespawner_override": often}},
    }


class _Cluster(ServedHub):
    def end_session(self, name: str) -> None:
        """End somebody's session."""
        self.stop(name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Cluster]:
    """One hub, in a namespace of its own, with an administrator."""
    with kubernetes.in_use() as cluster, cards(cluster, CARDS), cluster.namespace("waiting") as namespace:
        folder = tmp_path_factory.mktemp("hub")
        hub = _Cluster(cluster, namespace, folder, catalogue(cluster.image("base")), settings=SETTINGS)
        try:
            hub.up()
            yield hub
        finally:
            hub.down()


def test_an_idle_session_is_warned_and_kept_from_jupyterlab_and_from_the_page(browser: Browser, site: _Cluster) -> None:
    with people(browser, site, "instructor") as (lab,):
        waiting.idle_session_is_warned_and_kept(lab, site)


def test_a_budget_that_ends_stops_a_session_and_who_waited_to_switch_gets_its_card(
    browser: Browser, site: _Cluster
) -> None:
    with people(browser, site, "researcher-1", "researcher-2", "administrator") as (waits, spends, root):
        waiting.budget_ends_and_the_card_goes_to_who_switches(waits, spends, root, site)
