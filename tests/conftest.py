"""What the tests share: the program called in this process, small pairs of images, a small recipe."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from p2pkit.cli import main
from p2pkit.components.catalogue import create
from p2pkit.components.host import configure
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.utils.opening import VARIABLE

FAKE_DISTRIBUTION = Path(__file__).parent / "data" / "distribution"
REPOSITORY = Path(__file__).parent.parent

SMALLEST = "mobilenetv3_small_050"
"""The smallest network of timm that is in common use."""
NETWORKS = """
[generator]
depth = 3
width = 4

[discriminator]
name = "patchgan_16"
width = 4
"""
SMALL = (
    """
[run]
name = "small"

[data]
name = "side_by_side"
root = "{root}"

[loader]
batch_size = 2
workers = 0

[transform]
load_size = 20
crop_size = 16
flip = true

"""
    + NETWORKS
    + """
[train]
max_steps = 4
log_every = 1
sample_every = 2
checkpoint_every = 2
"""
)

PROGRESS = ("p2pkit ", "device: ", "checking headers", "looking at values", "NOTICE: ")
"""What lines on stderr begin with that tell how far a command is."""


@dataclass
class Outcome:
    """How a call of the program ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> list[str]:
        """The lines on stderr but for those that tell how far the command is."""
        return [line for line in self.err.splitlines() if not line.startswith(PROGRESS)]


Call = Callable[..., Outcome]


@pytest.fixture(autouse=True, scope="session")
def memory_given_back() -> Iterator[None]:
    """What runs in this process free is the system's again, so that tests of memory find it as in a new process.

    Kept, it would be a free heap of a gigabyte, which is cleared, and taken from the system, where it is used again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pkit.runs.freed_memory_kept", nullcontext)
        yield


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the user's that is empty, and forgotten after the test, as are its plugins and their folders."""
    folder, paths = tmp_path_factory.mktemp("cache"), list(sys.path)
    with pytest.MonkeyPatch.context() as patch:  # a test's own is undone before the program is configured anew
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder
    forget_modules(tmp_path_factory.getbasetemp())
    if sys.path != paths:  # a monkeypatch that is undone behind --plugins-dir puts it back
        sys.path[:] = paths
        configure()


def forget_modules(folder: Path) -> None:
    """Have what was imported from ``folder`` read anew: plugins of two tests may go by one name."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random weights under the names of published ones: TORCH_HOME/hub/checkpoints."""
    from tests.trained_networks import write_random_weights

    return write_random_weights(tmp_path_factory.mktemp("torch"))


@pytest.fixture
def p2pkit(capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Calls the program as a user would, in this process."""

    def call(*arguments: object) -> Outcome:
        forget_accelerator()
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setenv(VARIABLE, os.environ.get(VARIABLE, ""))  # --limit sets it, for the processes of one command
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, printed.out, printed.err)

    before = list(sys.path)  # --plugins-dir adds to it
    yield call
    sys.path[:] = before
    configure()


def forget_accelerator() -> None:
    """Let a run of another precision follow in this process; Accelerate keeps its state for good."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def picture(height: int, width: int, seed: int, channels: int = 3) -> Any:
    """A smooth picture that differs from seed to seed, uint8 [height, width, channels]."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return pixels[:, :, :channels] if channels > 1 else pixels[:, :, :1]


def save(file: Path, pixels: Any) -> Path:
    """Write pixels as the image file ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(file)
    return file


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data set of pairs side by side, six to train and two to test; the right half is the left one inverted."""
    root = tmp_path / "pairs"
    for split, count in (("train", 6), ("test", 2)):
        for index in range(count):
            left = picture(24, 24, seed=index + 100 * (split == "test"))
            save(root / split / f"{index}.png", np.concatenate([left, 255 - left], axis=1))
    return root


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("localhost", 0)) as free:
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def recipe(tmp_path: Path, pairs: Path) -> Path:
    """A recipe on these pairs that trains four steps in a blink."""
    file = tmp_path / "small.toml"
    file.write_text(SMALL.format(root=pairs))
    return file


def untrained_model(file: Path, name: str, **parameters: object) -> Path:
    """Write the model file of a generator of three channels whose weights are large enough for its noise to show."""
    generator = create("generators", name, source_channels=3, target_channels=3, **parameters)
    return write_untrained(file, generator, generator=name, parameters=parameters)


def write_untrained(file: Path, network: nn.Module, **header: Any) -> Path:
    """Write a model file with drawn weights; ``header`` is what it says beside, or in the place of, the usual."""
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.5, generator=torch.Generator().manual_seed(value.numel()))
    usual: dict[str, Any] = {
        "distribution": "p2pkit", "distribution_version": "0", "source_channels": 3, "target_channels": 3,
        "source_dtype": "uint8", "target_dtype": "uint8", "step": 7,
    }  # fmt: skip
    write_model(file, network.state_dict(), ModelHeader(**{**usual, **header}))
    return file


def lines(run: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl of a run says."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def validation(run: Path) -> dict[str, Any]:
    """What validation.json of a run says of its last metrics."""
    found: dict[str, Any] = json.loads((run / "validation.json").read_text())
    return found


def steps_of_checkpoints(run: Path) -> list[int]:
    """The steps of a run's checkpoints, the earliest first."""
    return sorted(int(folder.name.removeprefix("step_")) for folder in (run / "checkpoints").iterdir())


def distribution(
    folder: Path, name: str, version: str, points: Mapping[str, str], requires: Sequence[str] = ()
) -> Path:
    """Describe an installed distribution with entry ``points`` (name to module) in ``folder``, for --plugins-dir."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    required = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
    listed = "".join(f"{point} = {module}\n" for point, module in points.items())
    (info / "entry_points.txt").write_text(f"[p2pkit]\n{listed}")
    return folder


def train(p2pkit: Call, recipe: Path, out: Path, *settings: str) -> Path:
    """Train ``recipe`` with ``settings`` (K=V) to its end; the run folder ``out``."""
    outcome = p2pkit("run", recipe, "--out", out, *(part for setting in settings for part in ("--set", setting)))
    assert outcome.code == 0, outcome.err
    return out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An untrained U-Net whose dropout shows."""
    return untrained_model(tmp_path / "model.safetensors", "unet", depth=4, width=4, dropout=0.5)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the smallest network, as if they had been learnt."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "learnt.safetensors"
    save_file(timm.create_model(SMALLEST).state_dict(), file)
    return file
