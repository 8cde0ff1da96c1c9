"""The catalogue of one machine has those applications only that sessions there can start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hub.catalogue import SHIPPED, load_catalogue, with_apps_that_are_here
from hub.settings import Settings
from profiles.loader import load, loads

pytestmark = pytest.mark.unit

URLS = {"bind_url": "http://0.0.0.0:8081", "connect_url": "http://hub:8081"}
CATALOGUE = """\
apps:
  here: {{title: Here, command: [here, "{{unix_socket}}"]}}
  gone: {{title: Gone, command: [gone, "{{unix_socket}}"]}}
images:
  lab: {{title: Lab, local: {{environment: {{PATH: {path}, PYTHONPATH: {lib}}}}}, apps: [here, gone]}}
  bare: {{title: Bare, local: {{environment: {{PATH: {path}}}}}, apps: [here]}}
  own: {{title: Own, local: {{command: [{path}/lab]}}, apps: [gone, here]}}
  pod: {{title: Pod, reference: a/b, apps: [here]}}
profiles:
  p: {{title: P, options: {{image: [lab, bare, own, pod]}}}}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    program = tmp_path / "bin" / "here"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "lib" / "armillary_lab").mkdir(parents=True)
    file = tmp_path / "catalogue.yaml"
    file.write_text(CATALOGUE.format(path=program.parent, lib=tmp_path / "lib"))
    return file


def test_an_image_keeps_what_its_sessions_find_and_can_start(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests of this process may have put the extension on the path.
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not Path(folder, "armillary_lab").is_dir()])
    monkeypatch.delitem(sys.modules, "armillary_lab", raising=False)
    catalogue = load_catalogue(Settings(engine="local", catalogue=written))
    assert {key: image.apps for key, image in catalogue.images.items()} == {
        "lab": ("here",),
        "bare": (),  # its sessions have no extension that starts it
        "own": ("here",),  # what is in another environment its deployer knows
        "pod": (),
    }
    assert set(catalogue.apps) == {"here", "gone"}


def test_in_a_cluster_the_catalogue_is_taken_at_its_word(written: Path) -> None:
    assert load_catalogue(
        Settings.model_validate({"engine": "kubernetes", "catalogue": written, "hub": URLS, "service": URLS})
    ) == load(written)


def test_the_shipped_catalogue_offers_vs_code_where_code_server_is() -> None:
    asked = []

    def which(program: str, path: str) -> None:
        asked.append(program)

    assert with_apps_that_are_here(load(SHIPPED), which).images["jupyterlab"].apps == ()
    assert asked == ["code-server"]
    assert load(SHIPPED).images["jupyterlab"].apps == ("vscode",)
    assert loads(SHIPPED.read_text()).apps["vscode"].listens_at_socket
