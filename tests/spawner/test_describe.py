"""A request in words."""

from spawner.describe import describe
from spawner.options import parse
from tests.spawner.catalogues import ANN, catalogue


def test_titles_stand_for_keys() -> None:
    options = {
        "profile": "gpu",
        "accelerator": "t4",
        "count": 2,
        "memory": "1536Mi",
        "dataset--unlisted-choice": "cms7",
    }
    made = catalogue()
    assert describe(parse(options, made, ANN, "kubernetes"), made) == (
        ("Profile", "GPU"),
        ("Image", "PyTorch"),
        ("Accelerator", "2 × T4"),
        ("CPU cores", "2"),
        ("Memory", "1.5 GiB"),
        ("Data set", "cms7"),
    )
