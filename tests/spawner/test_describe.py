"""A request in words."""

from spawner.describe import describe
from spawner.options import parse
from tests.spawner.catalogues import ANN, catalogue, contents


def test_titles_stand_for_keys() -> None:
    options = {
        "profile": "gpu",
        "accelerator": "t4",
        "count": 2,
        "memory": "1536Mi",
        "dataset--unlisted-choice": "cms7",
    }
    made = catalogue()
    assert describe(parse(options, made, ANN, "kubernetes"), made, "kubernetes") == (
        ("Profile", "GPU"),
        ("Image", "PyTorch"),
        ("Accelerator", "2 × T4"),
        ("CPU cores", "2"),
        ("Memory", "1.5 GiB"),
        ("Data set", "cms7"),
    )


def test_what_is_simulated_says_so() -> None:
    accelerators = contents()["accelerators"]
    accelerators["t4"]["simulated"] = {"count": 2}
    made = catalogue(accelerators=accelerators)
    request = parse({"profile": "gpu", "image": "lab", "accelerator": "t4"}, made, ANN, "local")
    assert ("Accelerator", "T4 (simulated)") in describe(request, made, "local")
