"""A distribution that somebody else has written, with a component of each kind: installed by pip, used, taken away."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from p2pkit.components.host import configure
from p2pkit.components.kinds import KINDS
from p2pkit.images.reading import read_image
from p2pkit.training.sample_grids import GAP, LINE, TOP
from p2pkit.training.trainer import Trainer
from tests.conftest import REPOSITORY, Call, Outcome, distribution, lines, save, steps_of_checkpoints
from tests.environment import Environment

COMPONENTS = {
    "generators": "brush", "discriminators": "critic", "losses": "contrast", "datasets": "gradients",
    "methods": "alternating", "metrics": "worst_pixel", "exporters": "program", "encodings": "thermometer",
    "image_formats": "swatch",
    "augmentations": "shaking",
    "optimizers": "careful", "schedules": "layers", "callbacks": "visitors",
}  # fmt: skip
RECIPE = "box:everything"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that paintbox is installed into."""
    folder = tmp_path_factory.mktemp("environment")
    source = shutil.copytree(REPOSITORY / "tests" / "data" / "paintbox", folder / "paintbox")
    environment = Environment(folder / "venv")
    environment.run(f"pip install '{source}'", folder)
    return environment


@pytest.fixture
def program(p2pkit: Call, environment: Environment) -> Iterator[Call]:
    """Calls p2pkit, in this process, with what is installed in that environment."""
    before = list(sys.path)

    def call(*arguments: object) -> Outcome:
        return p2pkit("--plugins-dir", environment.packages, *arguments)

    yield call
    sys.path[:] = before
    configure()


def test_pip_installs_it_into_a_running_environment(environment: Environment, tmp_path: Path) -> None:
    (box,) = [
        plugin for plugin in json.loads(environment.run("p2pkit plugins --json", tmp_path)) if plugin["name"] == "box"
    ]
    assert (box["distribution"], box["version"], box["problem"]) == ("paintbox", "2.3", None)
    assert box["hooks"] == sorted(f"register_{kind}" for kind in KINDS) and box["recipes"] == ["everything", "unpaired"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_components_are_listed(kind: str, program: Call) -> None:
    described = {component["name"]: component for component in program("components", kind, "--json").json}
    own = described[COMPONENTS[kind]]
    assert (own["distribution"], own["version"], own["problem"]) == ("paintbox", "2.3", None)
    assert own["documentation"] and own["file"].endswith(".py")


def test_its_parameters_are_checked_and_all_mistakes_reported(program: Call) -> None:
    wrong = {
        "generator.size": "40", "generator.nois": "0.5", "discriminator.width": '"wide"', "losses.1.power": "0",
        "data.colour": '"pink"', "method.strokes": "1.5", "encoding.thresholds": '["high"]', "metrics.0.best": "1",
        "augmentations.0.pixels": "-1",
        "optimizer.lr": "0", "schedule.warmup": "-1", "callbacks.0.close_at": "0",
    }  # fmt: skip
    outcome = program("check", RECIPE, *(part for key, value in wrong.items() for part in ("--set", f"{key}={value}")))
    assert outcome.code == 2
    assert [key for key in wrong if f"{key}: " not in outcome.err and f"{key}." not in outcome.err] == []
    assert " to 31, a multiple of 1\n" in outcome.err and "did you mean 'noise'?" in outcome.err
    even = program("check", RECIPE, "--set", "generator.size=4")
    assert even.code == 2 and "'brush' of paintbox 2.3" in even.err and "a brush has a middle" in even.err


@pytest.fixture
def run(program: Call, tmp_path: Path) -> Path:
    """A run with all of them."""
    ended = program("run", RECIPE, "--out", tmp_path / "run", "--device", "cpu")
    assert ended.code == 0, ended.err
    return tmp_path / "run"


def stopped_at(step: int, program: Call, recipe: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped by Ctrl-C."""

    def interrupted(trainer: Trainer, *arguments: object) -> None:
        write(trainer, *arguments)
        if trainer.state.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    write = Trainer._write_what_is_due
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_write_what_is_due", interrupted)
        assert program("run", recipe, "--out", out, "--device", "cpu").code == 130
    assert steps_of_checkpoints(out)[-1] == step
    return out


def test_a_run_with_all_of_them_stops_and_resumes_exactly(
    program: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"generator/contrast", "generator/gan", "discriminator/gan"} <= lines(run)[0].keys()
    assert "validation/worst_pixel" in lines(run)[-1]
    rates = [line["generator/lr"] for line in lines(run)[:-1]]  # of the biases, the first group
    assert rates == pytest.approx([0.5e-4, 1e-4, 0.5e-4, 0.5e-4, 0.25e-4, 0.25e-4])
    assert (run / "visitors.txt").read_text() == "6 of 6"

    cut = stopped_at(3, program, RECIPE, tmp_path / "cut", monkeypatch)
    resumed = program("run", "--resume", cut, "--device", "cpu")
    assert resumed.code == 0, resumed.err
    assert (cut / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (cut / "visitors.txt").read_text() == "6 of 6"


def test_unpaired_data_is_trained_on_whatever_the_workers_and_resumes_exactly(
    program: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = program("check", "box:unpaired")
    assert checked.code == 0, checked.err
    assert "5 training sources and 7 targets, 2 val sources" in checked.out and "metrics compare pairs" in checked.out
    models = []
    for workers in ("0", "2"):
        run = tmp_path / workers
        ended = program("run", "box:unpaired", "--out", run, "--device", "cpu", "--set", f"loader.workers={workers}")
        assert ended.code == 0 and "validation/" not in ended.out, ended.err
        assert {"generator/lsgan", "generator/identity"} <= lines(run)[0].keys() and lines(run)[-1]["split"] == "train"
        # its discriminator's loss, that of the generator against it, and one that wants the target to stay as it is
        assert re.search(r"  D \d\S+  G \d\S+  identity \d\S+  epoch 4\n", ended.err), ended.err
        models.append(load_file(run / "model.safetensors"))
    assert all(bool((models[0][name] == models[1][name]).all()) for name in models[0])
    grid = np.asarray(Image.open(tmp_path / "0" / "samples" / "step_00000003.png"))
    assert grid.shape[0] == TOP + 2 * (132 + LINE + GAP)  # two sources of 12x8 or 12x12 pixels, eleven times enlarged
    assert (grid[TOP:, 2 * (132 + GAP) :] == 255).mean() > 0.9  # each beside its output alone
    # in the middle of the first epoch, of two steps, and of the second
    cut = stopped_at(3, program, "box:unpaired", tmp_path / "cut", monkeypatch)
    resumed = program("run", "--resume", cut, "--device", "cpu")
    assert resumed.code == 0, resumed.err
    assert (cut / "model.safetensors").read_bytes() == (tmp_path / "0" / "model.safetensors").read_bytes()


def test_its_model_names_it_and_needs_it(p2pkit: Call, program: Call, run: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "gray.png", np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16))
    described = p2pkit("inspect", run, "--json").json
    assert (described["generator"], described["distribution"], described["distribution_version"]) == (
        "brush", "paintbox", "2.3",
    )  # fmt: skip
    assert program("translate", run, source, "--out", tmp_path / "with").code == 0
    swatch = ("--format", "swatch")
    assert program("translate", run, source, "--out", tmp_path / "with", *swatch).code == 0
    assert np.array_equal(read_image(tmp_path / "with" / "gray.swatch"), read_image(tmp_path / "with" / "gray.png"))
    exported = program("export", run, "--format", "program", "--out", tmp_path / "brush.pt2")
    assert exported.code == 0, exported.err
    sys.path[:] = [path for path in sys.path if "environment" not in path]
    for command in (("translate", run, source, "--out", tmp_path / "no"), ("export", run, "--out", tmp_path / "no")):
        without = p2pkit(*command)
        assert without.code == 2 and "comes from paintbox 2.3, which is not here" in without.err
        assert "pip install paintbox" in without.err and "Traceback" not in without.err
    distribution(tmp_path / "later", "paintbox", "9", {"box": "paintbox"}, ["p2pkit>=99"])
    outdated = p2pkit("--plugins-dir", tmp_path / "later", "translate", run, source, "--out", tmp_path / "no")
    assert outdated.code == 2 and "which is left out here: it is built for p2pkit>=99" in outdated.err
