"""What an image is built from, what it is known by, and in which order images are built."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lab.images import program

build = program()


def pins(lock: Path) -> dict[str, list[str]]:
    """Versions that a file of requirements names, some of them one for each Python; each has a hash."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(.*)", lock.read_text(), re.MULTILINE)
    assert all(rest.endswith("\\") for _, _, rest in found), f"{lock}: a package without a hash"
    return {name: [version for one, version, _ in found if one == name] for name, _, _ in found}


class NoNode(Exception):
    """Why the extension cannot be built."""


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A program that builds the extension, which a test may change."""
    wheel = tmp_path / "armillary_lab-1-py3-none-any.whl"
    wheel.write_bytes(b"ours")
    made = SimpleNamespace(key=lambda: "first", wheel=lambda: wheel, Problem=NoNode)
    monkeypatch.setattr(build, "labextension", lambda: made)
    return made


@pytest.fixture
def image(tmp_path: Path) -> object:
    """An image that takes wheels, in which somebody has left one."""
    folder = tmp_path / "image"
    (folder / "wheels").mkdir(parents=True)
    (folder / "Dockerfile").write_text("# One of the tests\nFROM x\n")
    (folder / "wheels" / "README.md").write_text("wheels\n")
    (folder / "wheels" / "old.whl").write_bytes(b"old")
    return build.Image("image", folder, None)


def test_an_image_that_takes_wheels_is_another_when_the_extension_is(extension: SimpleNamespace, image) -> None:  # type: ignore[no-untyped-def]
    before = build.tag_of(image, "debian")
    (image.folder / "wheels" / "old.whl").write_bytes(b"older")
    assert build.tag_of(image, "debian") == before
    extension.key = lambda: "second"
    assert build.tag_of(image, "debian") != before


def test_an_image_without_wheels_has_nothing_to_do_with_the_extension(extension: SimpleNamespace, image) -> None:  # type: ignore[no-untyped-def]
    for left in (image.folder / "wheels").iterdir():
        left.unlink()
    (image.folder / "wheels").rmdir()
    before = build.tag_of(image, "debian")
    extension.key = lambda: "second"
    assert build.tag_of(image, "debian") == before
    with build.context(image) as context:
        assert [path.name for path in context.iterdir()] == ["Dockerfile"]


def test_the_wheel_that_was_built_is_the_only_one_in_the_context(extension: SimpleNamespace, image) -> None:  # type: ignore[no-untyped-def]
    (image.folder / "Dockerfile").chmod(0o755)
    with build.context(image) as context:
        found = {path.relative_to(context).as_posix() for path in context.rglob("*") if path.is_file()}
        assert found == {"Dockerfile", "wheels/README.md", "wheels/armillary_lab-1-py3-none-any.whl"}
        assert (context / "Dockerfile").stat().st_mode & 0o100
        assert (context / "wheels" / "armillary_lab-1-py3-none-any.whl").read_bytes() == b"ours"
    assert not context.exists()
    assert (image.folder / "wheels" / "old.whl").exists()


def test_an_extension_that_cannot_be_built_is_said(extension: SimpleNamespace, image) -> None:  # type: ignore[no-untyped-def]
    def fail() -> Path:
        raise NoNode("Node 20 or newer is needed")

    extension.wheel = fail
    with pytest.raises(build.Problem, match="the JupyterLab extension cannot be built: Node 20"), build.context(image):
        pass


def test_another_base_or_file_is_another_image(extension: SimpleNamespace, image) -> None:  # type: ignore[no-untyped-def]
    tags = {build.tag_of(image, "debian"), build.tag_of(image, "ubuntu")}
    (image.folder / "Dockerfile").chmod(0o755)
    tags.add(build.tag_of(image, "debian"))
    (image.folder / "more").write_text("x")
    tags.add(build.tag_of(image, "debian"))
    assert len(tags) == 4


def test_the_hubs_image_holds_this_project_as_a_wheel_and_is_another_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = build.images()["hub"]
    with build.context(image) as context:
        [wheel] = (context / "wheels").glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
    assert {"hub/cli.py", "spawner/kube.py", "profiles/catalogue.yaml", "hub/templates/home.html"} <= set(names)
    before = build.tag_of(image, "debian")
    monkeypatch.setattr(build, "_PACKAGES", ("profiles", "spawner"))
    assert build.tag_of(image, "debian") != before


def test_images_come_after_what_they_are_built_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, base in (("a", "c"), ("b", "debian"), ("c", "b")):
        (tmp_path / name).mkdir()
        reference = base if base == "debian" else f"{build.NAME}/{base}"
        (tmp_path / name / "Dockerfile").write_text(f"# {name}\nARG BASE_IMAGE={reference}\nFROM $BASE_IMAGE\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    known = build.images()
    assert [*known] == ["b", "c", "a"]
    assert [image.parent for image in known.values()] == [None, "b", "c"]
    assert [image.name for image in build._wanted(known, ["c"])] == ["b", "c"]
    before = build.tag_of(known["a"], "debian")
    (tmp_path / "b" / "file").write_text("changed")
    assert build.tag_of(known["a"], "debian") != before, "what it is built on is another"


@pytest.mark.parametrize("name", build.images())
def test_no_image_runs_as_root_and_every_first_line_says_what_it_is(name: str) -> None:
    image = build.images()[name]
    lines = (image.folder / "Dockerfile").read_text().splitlines()
    assert lines[0].startswith("# ")
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1].split(":")[0] not in ("0", "root")
    assert any(label.startswith("org.opencontainers.image.description=") for label in build.labels_of(image, "1", "b"))


def test_every_package_is_pinned_by_its_hash() -> None:
    for image in build.images().values():
        text = (image.folder / "Dockerfile").read_text()
        if "pip install" in text:
            assert "--require-hashes" in text
            assert "--hash=sha256:" in (image.folder / "requirements.txt").read_text()
            named = set(re.findall(r"--requirement \S+/(\S+\.txt)", text))
            assert named == {file.name for file in image.folder.glob("*.txt")}
            for lock in named:
                assert pins(image.folder / lock)
        if " ci " in text:
            assert '"integrity"' in (image.folder / "package-lock.json").read_text()
            assert '"resolved"' not in (image.folder / "package-lock.json").read_text()


def test_what_is_added_to_an_image_takes_nothing_away() -> None:
    """A package of the image below, or one that PyTorch needs and is there, would lie in two layers."""
    base, cuda = pins(build.HERE / "base" / "requirements.txt"), pins(build.HERE / "gpu" / "requirements.txt")
    pytorch, quantum = pins(build.HERE / "gpu" / "pytorch.txt"), pins(build.HERE / "quantum" / "requirements.txt")
    for below, above in ((base, quantum), (base, pytorch), (base, cuda), (cuda, pytorch)):
        both = set(below) & set(above)
        assert {name: above[name] for name in both} == {name: below[name] for name in both}
    assert set(cuda) <= set(pytorch)
    assert "torch" in pytorch
    assert {"qiskit-aer", "pennylane", "cirq-core"} <= set(quantum)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Three images, each built on the one before; the second has an argument. Returns their folder."""
    said = {
        "a": ("debian", ""),
        "b": (f"{build.NAME}/a", "ARG WITH=nothing\nRUN $WITH\n"),
        "c": (f"{build.NAME}/b", ""),
    }
    for name, (base, more) in said.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(
            f"# {name}\nARG BASE_IMAGE={base}\nFROM $BASE_IMAGE\nARG PIP_CONFIG_FILE\n{more}"
        )
    monkeypatch.setattr(build, "HERE", tmp_path)
    return tmp_path


def test_an_argument_makes_another_image_of_what_declares_it_and_of_what_is_built_on_that(three: Path) -> None:
    known = build.images()
    given = {"WITH": "something"}
    assert build.tag_of(known["a"], "debian", given) == build.tag_of(known["a"], "debian")
    for name in ("b", "c"):
        tags = [build.tag_of(known[name], "debian", said) for said in ({}, given, {"WITH": "more"})]
        assert len({*tags}) == 3


def test_an_argument_is_given_to_what_declares_it(three: Path, tmp_path: Path) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\n[ "$1" = build ] && echo "$@" >> {tmp_path}/built || exit 1\n')
    docker.chmod(0o755)
    assert build.main(["--builder", str(docker), "--base", "debian", "--build-arg", "WITH=a=b"]) == 0
    built = (tmp_path / "built").read_text().splitlines()
    assert [("--build-arg=WITH=a=b" in line.split()) for line in built] == [False, True, False]
    tags = [build.tag_of(image, "debian", {"WITH": "a=b"}) for image in build.images().values()]
    assert [f"--build-arg=BASE_IMAGE={base}" in line for base, line in zip(
        ["debian", f"{build.NAME}/a:{tags[0]}", f"{build.NAME}/b:{tags[1]}"], built, strict=True)] == [True] * 3  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--build-arg", "WITHOUT=x"], "--build-arg WITHOUT=x is no NAME=VALUE of these images; names are: WITH"),
        (["--build-arg", "WITH"], "--build-arg WITH is no NAME=VALUE"),
        (["--build-arg", "BASE_IMAGE=x"], "--build-arg BASE_IMAGE=x is no NAME=VALUE"),
        (["a", "--build-arg", "WITH=x"], "names are: none"),
    ],
)
def test_an_argument_that_no_image_has_is_refused(
    three: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["--list", *words])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_an_unknown_image_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["hub", "nonsense"])
    assert ended.value.code == 2
    assert "no image nonsense; there are: base, gpu, hub" in capsys.readouterr().err


def test_a_missing_builder_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["postgres", "--builder", "/nowhere/buildah"]) == 1
    assert "/nowhere/buildah" in capsys.readouterr().err
