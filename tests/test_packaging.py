"""What is published: a source distribution, and the wheel that is built from it, used away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

import p2pkit as library
from p2pkit.builtin.datasets.procedural_facades import ProceduralFacades
from p2pkit.inference.model_file import read_header
from tests.conftest import REPOSITORY, Call

PROJECTS = [REPOSITORY / "pyproject.toml", *sorted(REPOSITORY.glob("plugins/*/pyproject.toml"))]
FEW = ("data.pairs=4", "data.val_pairs=2", "data.test_pairs=2", "train.max_steps=2", "validation.max_images=2")
SHIPPED = REPOSITORY / "p2pkit" / "builtin" / "models" / "quickstart.safetensors"


def build(kind: str, project: Path, out: Path) -> Path:
    """Build the "sdist" or "wheel" of ``project`` in ``out``, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", REPOSITORY, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of the source distribution."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (project,) = unpacked.iterdir()
    return build("wheel", project, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that has p2pkit from the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def away(installed: Path, folder: Path, *arguments: str) -> str:
    """What ``p2pkit`` from the wheel prints in ``folder``."""
    variables = {**os.environ, "PYTHONPATH": str(installed)}
    ended = subprocess.run(
        [sys.executable, "-m", "p2pkit", *arguments], cwd=folder, env=variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert str(REPOSITORY) not in ended.stderr
    return ended.stdout


def test_the_wheel_of_the_source_distribution_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        recipes = {name for name in names if name.startswith("p2pkit/builtin/recipes/")}
        shipped = {file.name: file.read_bytes() for file in (REPOSITORY / "recipes").rglob("*.toml")}
        assert {Path(name).name: archive.read(name) for name in recipes} == shipped
    sources = {
        file for file in (REPOSITORY / "p2pkit").rglob("*") if file.is_file() and "__pycache__" not in file.parts
    }
    assert {file.relative_to(REPOSITORY).as_posix() for file in sources} <= names
    assert {name.partition("/")[0] for name in names} == {"p2pkit", f"p2pkit-{library.__version__}.dist-info"}


def test_the_source_distribution_holds_what_its_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"recipes/quickstart.toml", "tests/test_packaging.py", "docs/recipes.md", "LICENSE"} <= names
    assert "plugins/p2pkit-hd/pyproject.toml" in names


def test_the_quickstart_runs_away_from_the_repository(installed: Path, tmp_path: Path) -> None:
    settings = [part for setting in FEW for part in ("--set", setting)]
    away(installed, tmp_path, "run", "p2pkit:quickstart", *settings, "--out", "run", "--device", "cpu")
    assert read_header(tmp_path / "run" / "model.safetensors").step == 2
    listed = away(installed, tmp_path, "plugins")
    for provided in ("recipe p2pkit:pix2pix_facades", "recipe p2pkit:quickstart", "model p2pkit:quickstart"):
        assert provided in listed


def test_recipes_of_p2pkit_go_by_name_in_the_repository_too(
    p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_file = p2pkit("show", REPOSITORY / "recipes" / "quickstart.toml").out
    monkeypatch.chdir(tmp_path)
    assert p2pkit("show", "p2pkit:quickstart").code == 0 and "procedural_facades" in by_file
    (tmp_path / "own.toml").write_text('extends = "p2pkit:pix2pix_facades"\n[loader]\nworkers = 0\n')
    assert 'name = "facades"' in p2pkit("show", "own.toml").out
    unknown = p2pkit("show", "p2pkit:quickstrat")
    assert unknown.code == 2 and "did you mean 'quickstart'?" in unknown.err


@pytest.mark.parametrize(
    "command", [("translate", "x.png", "--out", "out"), ("inspect",), ("export", "--out", "x.onnx")]
)
def test_a_model_that_nobody_provides_is_refused_by_name(
    command: tuple[str, ...], p2pkit: Call, tmp_path: Path
) -> None:
    for name, said in (("p2pkit:quickstrat", "did you mean 'quickstart'?"), ("p3pkit:x", "did you mean 'p2pkit'?")):
        outcome = p2pkit(command[0], name, *command[1:])
        assert outcome.code == 2 and said in outcome.err


def test_the_shipped_model_translates_its_own_data_at_once(p2pkit: Call, tmp_path: Path) -> None:
    """Against the targets, and against what a translator of no skill would give: each class of labels in one colour."""
    outcome = p2pkit("translate", "p2pkit:quickstart", "--split", "test", "--out", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    data = ProceduralFacades("test", 128)
    colours = mean_colours(ProceduralFacades("train", 128))
    learnt, trivial = [], []
    for index in range(20):
        sample = data[index]
        source, target = (np.asarray(each, dtype=float) for each in (sample.source, sample.target))
        output = np.asarray(Image.open(tmp_path / "out" / f"{sample.key}.png"), dtype=float)
        learnt.append(np.abs(output - target).mean() / 255)
        painted = np.array([colours[tuple(pixel)] for pixel in source.reshape(-1, 3).astype(int)])
        trivial.append(np.abs(painted.reshape(target.shape) - target).mean() / 255)
    assert np.mean(learnt) < 0.75 * np.mean(trivial)


def mean_colours(data: ProceduralFacades) -> dict[tuple[int, ...], np.ndarray]:
    """The mean colour of the pixels of each label, in thirty pairs."""
    pairs = [data[index] for index in range(30)]
    sources = np.concatenate([np.asarray(pair.source).reshape(-1, 3) for pair in pairs]).astype(int)
    targets = np.concatenate([np.asarray(pair.target).reshape(-1, 3) for pair in pairs]).astype(float)
    labels, which = np.unique(sources, axis=0, return_inverse=True)
    return {tuple(label): targets[which.reshape(-1) == index].mean(axis=0) for index, label in enumerate(labels)}


def test_the_shipped_model_takes_a_label_map_of_ones_own(tmp_path: Path) -> None:
    labels = Image.fromarray(np.asarray(ProceduralFacades("val", (150, 170))[3].source))
    labels.save(tmp_path / "labels.png")
    image = library.load_model("p2pkit:quickstart", "cpu")(tmp_path / "labels.png")
    assert isinstance(image, Image.Image) and image.size == (170, 150)
    assert np.asarray(image).std() > 20


def test_the_shipped_model_is_small_and_says_how_it_was_made(p2pkit: Call) -> None:
    assert SHIPPED.stat().st_size < 2e6
    said = p2pkit("inspect", "p2pkit:quickstart", "--json").json
    assert said["distribution"] == "p2pkit" and said["step"] > 1000 and said["metrics"]
    recipe = p2pkit("inspect", "p2pkit:quickstart", "--recipe").out
    assert tomllib.loads(recipe)["data"]["name"] == "procedural_facades"
    assert "/tmp" not in recipe and "/home" not in recipe


def test_all_projects_and_extras_ask_for_one_pytorch() -> None:
    """An extra that wants another one would have pip replace a PyTorch that was chosen for a machine."""
    asked: dict[str, set[str]] = {}
    for file in PROJECTS:
        project = tomllib.loads(file.read_text())["project"]
        assert SpecifierSet(project["requires-python"]).contains("3.11.0")
        extras = project.get("optional-dependencies", {}).values()
        for text in [*project["dependencies"], *(text for extra in extras for text in extra)]:
            requirement = Requirement(text)
            if requirement.name in ("torch", "torchvision"):
                asked.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: len(specifiers) for name, specifiers in asked.items()} == {"torch": 1, "torchvision": 1}
