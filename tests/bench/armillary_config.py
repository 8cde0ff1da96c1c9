"""Ours: everything by `hub.config.apply` from an `armillary.yaml`, but for the login, which is the same at both hubs."""

from __future__ import annotations

import os
from pathlib import Path

from hub.config import apply
from hub.settings import load

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # JupyterHub puts it there

apply(c, load(Path(os.environ["BENCH_FOLDER"], "armillary.yaml")))

if "BENCH_LOOP" in os.environ:
    from tests.bench import loop_watch

    loop_watch.install(Path(os.environ["BENCH_LOOP"]))
if os.environ["BENCH_HUB"] == "naive":
    from tests.bench.naive_desk import NaiveDesk

    c.RequestSpawner.desk = NaiveDesk(c.RequestSpawner.catalogue)

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True

if "BENCH_SERVERS" in os.environ:
    from tests.bench import storm_config

    storm_config.apply(c)
