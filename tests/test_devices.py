"""Where a command computes: what --device takes, what is refused, and what is said of it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import p2pkit as package
from p2pkit.distributed.accelerator import choose_device, make_accelerator
from p2pkit.errors import RecipeError
from p2pkit.settings import TrainSettings
from p2pkit.utils import openmp
from tests.conftest import Call, forget_accelerator

GPUS, APPLE = torch.cuda.device_count(), torch.backends.mps.is_available()
THREADS = torch.get_num_threads()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", "device 'gpu': expected cpu, cuda, cuda:N with the number N of a GPU, mps, or auto"),
        ("cpu:0", "device 'cpu:0': expected"),
        ("cuda:x", "device 'cuda:x': expected"),
        ("cuda:700", f"this machine has {GPUS} GPU" if GPUS else "device cuda:700: PyTorch finds no CUDA device here"),
        pytest.param("mps", "device mps: PyTorch finds no GPU of Apple", marks=pytest.mark.skipif(APPLE, reason="one")),
    ],
)
def test_devices_that_are_not_here_are_refused(
    name: str, said: str, recipe: Path, model: Path, tmp_path: Path, p2pkit: Call
) -> None:
    images = tmp_path / "pairs" / "test"
    for command in (
        ("run", recipe, "--out", tmp_path / "run"),
        ("translate", model, images, "--out", tmp_path / "out"),
        ("evaluate", model, "--data", recipe),
    ):
        outcome = p2pkit(*command, "--device", name)
        assert outcome.code == 2 and said in outcome.err and "Traceback" not in outcome.err, outcome.err
        assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="device"):
        package.load_model(model, device=name)


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_the_device_is_in_the_first_lines(name: str, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    ended = p2pkit("run", recipe, "--out", tmp_path / "run", "--device", name)
    assert ended.code == 0, ended.err
    first, second, *_ = ended.err.splitlines()
    assert first == f"p2pkit {package.__version__}: run {recipe}, device {name} (loading PyTorch ...)"
    assert second == f"device: cpu, threads: {THREADS}" or (name == "auto" and (GPUS or APPLE))
    done = p2pkit("translate", tmp_path / "run", tmp_path / "pairs" / "test", "--out", tmp_path / "o", "--device", name)
    assert done.code == 0 and done.err.splitlines()[1] == second and f"device {name} (" in done.err.splitlines()[0]
    assert p2pkit("check", recipe).err.splitlines()[0].startswith(f"p2pkit {package.__version__}: check {recipe} (")


def test_the_first_line_is_there_before_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('import sys; print("torch is imported", file=sys.stderr, flush=True); 1 / 0\n')
    for command in (["run", "x.toml"], ["check", "x.toml"], ["translate", "m", "i", "--out", "o"], ["components"]):
        done = subprocess.run(
            [sys.executable, "-m", "p2pkit", *command], capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
        assert done.stderr.startswith(f"p2pkit {package.__version__}: {command[0]}"), done.stderr


@pytest.mark.parametrize("given", [{"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "ACTIVE"}, {}])
def test_threads_soon_sleep_where_others_want_the_cores_unless_it_is_set_otherwise(given: dict[str, str]) -> None:
    printing = "import atexit, os; atexit.register(lambda: print(os.environ.get('GOMP_SPINCOUNT')))"
    program = f"{printing}; from p2pkit.cli.main import main; main(['--version'])"
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            done = subprocess.run(
                [sys.executable, "-c", program], env={**others, **given}, capture_output=True, text=True, check=True
            )
        finally:
            spinning.kill()
    expected = given.get("GOMP_SPINCOUNT", "None" if given else openmp.SPINS_ON_BUSY_CORES)
    assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("load", "found"),
    [
        ("0.12 0.34 0.56 1/345 6789", openmp.SPINS),
        ("0.12 0.34 0.56 2/345 6789", openmp.SPINS_ON_BUSY_CORES),
        ("0.00 0.00 0.00 0/0 0", openmp.SPINS_ON_BUSY_CORES),
        ("what is this", openmp.SPINS_ON_BUSY_CORES),
        (None, openmp.SPINS_ON_BUSY_CORES),
    ],
)
def test_threads_spin_longer_where_the_system_says_that_nothing_else_runs(
    load: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openmp, "LOAD", tmp_path / "loadavg")
    if load is not None:
        openmp.LOAD.write_text(load)
    environment: dict[str, str] = {}
    openmp.set_spinning(environment)
    assert environment == {"GOMP_SPINCOUNT": found}


def test_gpus_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    # no machine that tests run on has several, and what is chosen there is all that matters here
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1") and choose_device("cuda") == torch.device("cuda")
    assert choose_device(None) == choose_device("auto") == torch.device("cuda")
    with pytest.raises(RecipeError, match=r"device cuda:2: this machine has 2 GPUs, cuda:0 to cuda:1; choose one"):
        choose_device("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match=r"device cuda:1: several processes need a GPU each; choose cuda"):
        make_accelerator(TrainSettings(), "cuda:1")


def test_training_is_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")  # what Accelerate takes where nothing is named
    forget_accelerator()
    assert make_accelerator(TrainSettings(), "auto").device.type == "meta"
    assert make_accelerator(TrainSettings(), "cpu").device.type == "cpu"
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == "meta"
    forget_accelerator()
