"""An error of the system while a checkpoint or a model is read is no damage: nothing is renamed, removed or skipped."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from p2pkit.errors import P2PKitError
from p2pkit.inference.model_file import read_header, read_model
from p2pkit.training.checkpoint import Trained, read_checkpoint, read_networks, write_checkpoint
from p2pkit.utils.opening import ReadError
from p2pkit.utils.tensor_file import read_tensors
from tests.conftest import Call, steps_of_checkpoints, train, untrained_model
from tests.failing import LYING, PASSING, failing_reads, snapshot

ALWAYS = 10**9


class Pool:
    """Something beside networks that has tensors to remember."""

    def state_dict(self) -> dict[str, Any]:
        return {"images": torch.ones(3)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["images"].sum() == 3


def trained() -> Trained:
    networks = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
    optimizers = {name: torch.optim.Adam(network.parameters()) for name, network in networks.items()}
    for name, network in networks.items():
        network(torch.ones(1, 2)).sum().backward()
        optimizers[name].step()
    return Trained(networks, optimizers, stateful={"pool": Pool()})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    for step in (2, 4):
        write_checkpoint(tmp_path / "checkpoints", step, trained(), {"seconds": 1.0}, keep=2)
    return tmp_path / "checkpoints"


READERS: dict[str, Callable[[Path], object]] = {
    "checkpoint": lambda folder: read_checkpoint(folder, trained())[0]["step"],
    "networks": lambda folder: {name: len(tensors) for name, tensors in read_networks(folder)[0].items()},
}


@pytest.mark.parametrize("code", [*PASSING, *LYING], ids=errno.errorcode.get)
@pytest.mark.parametrize("reader", READERS)
def test_each_read_of_a_checkpoint_may_fail_and_nothing_is_taken_for_damaged(
    reader: str, code: int, checkpoints: Path
) -> None:
    read = READERS[reader]
    with failing_reads(ALWAYS, ALWAYS, code) as operations:
        whole = read(checkpoints)
    assert len(operations) > 6
    before = snapshot(checkpoints)
    for number in range(1, len(operations) + 1):
        with failing_reads(number, number, code):
            if code in PASSING:
                assert read(checkpoints) == whole, operations[number - 1]
        with failing_reads(number, ALWAYS, code), pytest.raises((P2PKitError, OSError)) as refused:
            assert read(checkpoints) == {} and operations[number - 1].startswith("list")
            raise ReadError("there is no such folder")
        assert "damaged" not in str(refused.value)
        assert snapshot(checkpoints) == before
    assert read(checkpoints) == whole


@pytest.mark.parametrize("code", [*PASSING, *LYING], ids=errno.errorcode.get)
def test_each_read_of_a_model_file_may_fail(code: int, tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "model.safetensors", "unet", depth=3, width=4)
    for read in (read_header, read_model):
        with failing_reads(ALWAYS, ALWAYS, code) as operations:
            read(model)
        assert len(operations) >= 2
        for number in range(1, len(operations) + 1):
            with failing_reads(number, ALWAYS, code, lambda path: path == str(model)), pytest.raises(ReadError):
                read(model)
            if code in PASSING:
                with failing_reads(number, number, code):
                    read(model)


FILES = [
    "checkpoints/step_00000004/progress.json", "checkpoints/step_00000004/networks.safetensors",
    "checkpoints/step_00000004/optimizers.safetensors", "checkpoints", "metrics.jsonl", "environment.json",
]  # fmt: skip


def test_a_resumed_run_changes_nothing_while_a_file_cannot_be_read(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    before = snapshot(run)
    for number, name in enumerate(FILES):
        code = PASSING[number]
        with failing_reads(1, ALWAYS, code, lambda path, name=name: path == str(run / name)) as operations:  # type: ignore[misc]
            outcome = p2pkit("run", "--resume", run)
        assert operations and outcome.code == 2 and "Traceback" not in outcome.err, name
        assert f"cannot read {run / name}: " in outcome.err and "damaged" not in outcome.err, name
        assert snapshot(run) == before, name
        with failing_reads(1, ALWAYS, code, lambda path, name=name: path == str(run / name)):  # type: ignore[misc]
            again = p2pkit("run", recipe, "--out", run, "--continue")
        assert again.code == 2 and f"cannot read {run / name}: " in again.err and snapshot(run) == before, name
    with failing_reads(1, 2, errno.ESTALE, lambda path: path.startswith(str(run))):
        assert p2pkit("run", "--resume", run).code == 0
    assert snapshot(run) == before


def test_a_run_that_begins_with_another_takes_its_last_checkpoint_or_none(
    recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    begun = ("run", recipe, "--out", tmp_path / "other", "--set", f'train.init_from="{run}"')
    with failing_reads(1, ALWAYS, errno.EIO, lambda path: "step_00000004" in path):
        outcome = p2pkit(*begun)
    assert outcome.code == 2 and "step_00000004" in outcome.err and not (tmp_path / "other").exists()


def test_a_checkpoint_without_one_of_its_files_is_damaged(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    whole = snapshot(run)
    (run / "checkpoints/step_00000004/optimizers.safetensors").unlink()
    resumed = p2pkit("run", "--resume", run)
    assert resumed.code == 0 and "this checkpoint is damaged" in resumed.err
    assert (run / "checkpoints/damaged_step_00000004").is_dir() and steps_of(run) == [2, 4]
    shutil.rmtree(run / "checkpoints/damaged_step_00000004")
    names = ("model.safetensors", "metrics.jsonl", "checkpoints/step_00000004/networks.safetensors")
    assert {name: snapshot(run)[name] for name in names} == {name: whole[name] for name in names}
    assert steps_of_checkpoints(run) == [2, 4]


def steps_of(run: Path) -> list[int]:
    return sorted(int(folder.name[-8:]) for folder in (run / "checkpoints").glob("step_*"))


def test_a_checkpoint_is_held_in_memory_once(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.tensor(True),
        "c": torch.zeros(0, 4),
        "d": torch.ones(1),
    }
    tensors |= {str(dtype): torch.ones(3, dtype=dtype) for dtype in (torch.bfloat16, torch.float16, torch.int64)}
    save_file(tensors, tmp_path / "file")
    contents, found = read_tensors(tmp_path / "file")
    assert found.keys() == tensors.keys() and contents.size == (tmp_path / "file").stat().st_size
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        assert found[name].untyped_storage().nbytes() == tensor.nbytes
