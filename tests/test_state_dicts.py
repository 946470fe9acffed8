"""The state of methods and of what else has one: what a checkpoint holds of it, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from p2pkit.errors import RecipeError, RunDirError
from p2pkit.training.checkpoint import Trained, read_checkpoint, write_checkpoint
from p2pkit.training.state_dicts import SavedState, take_states


class Pool:
    """Whatever it is given."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> Mapping[str, Any]:
        return self.state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = state


def trained(**stateful: Pool) -> Trained:
    return Trained({"generator": nn.Linear(1, 1)}, {}, None, stateful)


def files(checkpoints: Path) -> set[str]:
    return {file.name for file in (checkpoints / "step_00000001").iterdir()}


TREE = {
    "none": None, "yes": True, "count": 2**70, "best": -math.inf, "rate": 0.1, "text": "ä|\n", 7: ["a", ("b", 1)],
    "empty": {}, "dict": {"tensor": "no tensor", "list": [[], {}]},
}  # fmt: skip


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3), torch.zeros(0, 4), torch.tensor([True, False]), torch.tensor([1.5, math.nan]).bfloat16(),
        torch.arange(6, dtype=torch.int16).view(2, 3).T, torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    ],
    ids=lambda tensor: f"{tensor.dtype} {list(tensor.shape)}",
)  # fmt: skip
def test_a_state_comes_back_as_it_was(tensor: torch.Tensor, tmp_path: Path) -> None:
    images = torch.rand(4, 2)
    pool, anew = Pool({**TREE, "tensor": tensor, "views": list(images)}), Pool({})
    write_checkpoint(tmp_path, 1, trained(method=pool, schedule=Pool(TREE)), {}, keep=1)
    images += 1  # a checkpoint holds what was
    restored = trained(method=anew, schedule=Pool({}))
    assert read_checkpoint(tmp_path, restored)[1] == []
    found = dict(anew.state)
    back, views = found.pop("tensor"), found.pop("views")
    assert found == TREE == restored.stateful["schedule"].state_dict() and type(found[7][1]) is tuple
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(torch.nan_to_num(back.float()), torch.nan_to_num(tensor.float()))
    assert back.is_contiguous(memory_format=torch.channels_last) or back.ndim != 4
    assert all(torch.equal(view + 1, now) for view, now in zip(views, images, strict=True))


def test_what_has_no_tensors_writes_no_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, trained(), {}, keep=1)
    assert files(tmp_path) == {"networks.safetensors", "optimizers.safetensors", "progress.json"}


def test_a_state_that_changed_at_the_same_step_replaces_the_first(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, trained(method=Pool({"seen": torch.zeros(2)})), {}, keep=1)
    before = files(tmp_path)
    write_checkpoint(tmp_path, 1, trained(method=Pool({"seen": torch.ones(2)})), {}, keep=1)
    assert files(tmp_path) != before and len(files(tmp_path)) == 4
    read_checkpoint(tmp_path, trained(method=(anew := Pool({}))))
    assert anew.state["seen"].tolist() == [1, 1]


def test_a_damaged_state_is_a_damaged_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, trained(method=Pool({"seen": torch.zeros(2)})), {}, keep=1)
    (file,) = (tmp_path / "step_00000001").glob("state_*")
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(RunDirError, match=r"all checkpoints are damaged(?s:.)*state_\w+.safetensors: its checksum"):
        read_checkpoint(tmp_path, trained(method=Pool({})))


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"seen": {1, 2}}, r"^method: state_dict\(\)\['seen'\] is a set; a checkpoint takes tensors, numbers, text"),
        ({"a": [0, nn.ReLU()]}, r"^method: state_dict\(\)\['a'\]\[1\] is a ReLU; a checkpoint"),
        ({("a", 1): 0}, r"^method: state_dict\(\) has the key \('a', 1\); a checkpoint takes text and whole numbers"),
        (
            {"a": torch.zeros(2, 2).to_sparse()},
            r"^method: state_dict\(\)\['a'\] is a torch.sparse_coo tensor; a checkpoint",
        ),
    ],
)
def test_what_no_checkpoint_takes_is_refused(state: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        take_states({"method": Pool(state)})


def of_ranks(*values: int) -> list[SavedState]:
    return [take_states({"method": Pool({"rank": torch.tensor(value)})})["method"] for value in values]


@pytest.mark.parametrize(
    ("saved", "processes", "expected", "notices"),
    [([0, 1], 2, [0, 1], 0), ([0, 1], 1, [0], 1), ([0, 1, 2], 4, [0, 1, 2, 0], 1), ([5], 3, [5, 5, 5], 0)],
)
def test_each_process_gets_its_own(
    saved: list[int], processes: int, expected: list[int], notices: int, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, 1, trained(method=Pool({})), {}, keep=1, states={"method": of_ranks(*saved)})
    for rank in range(processes):
        pool = Pool({})
        said = read_checkpoint(tmp_path, trained(method=pool), rank, processes)[1]
        assert pool.state["rank"] == expected[rank] and len(said) == notices
        assert all(f"on each of {len(saved)} processes; this run has {processes}" in one for one in said)


def test_a_state_that_nobody_asks_for_or_has_is_reported(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, trained(before=Pool({})), {}, keep=1)
    (left, new) = sorted(read_checkpoint(tmp_path, trained(now=Pool({"kept": 1})))[1])
    assert "before has a state in the checkpoint" in left and "now has a state, and the checkpoint none" in new
