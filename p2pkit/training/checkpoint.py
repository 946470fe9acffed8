"""Checkpoints without pickle: tensors in safetensors, everything else in JSON, each folder whole or not there.

``step_00000500/`` holds networks.safetensors, optimizers.safetensors and progress.json: enough to resume exactly. The
tensors of what else has a state (a method's image pool) are in ``state_CHECKSUM.safetensors``, a file for each.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from p2pkit.contracts import Stateful
from p2pkit.distributed.collectives import all_gather_text
from p2pkit.errors import ModelFileError, P2PKitError, RecipeError, RunDirError, first_line, shortened, visible
from p2pkit.inference.model_file import refuse_not_finite
from p2pkit.run_records import Progress, refuse_unlikely
from p2pkit.training.identity import Identity
from p2pkit.training.state_dicts import SavedState, put_back, take_states
from p2pkit.utils.atomic import atomic_write, os_errors_described, sync, unfinished, write_json
from p2pkit.utils.opening import read_regular

FORMAT_VERSION = 4
_NETWORKS, _OPTIMIZERS, _PROGRESS = "networks.safetensors", "optimizers.safetensors", "progress.json"
_OWN_CHECKSUM = "sha256_of_the_rest"
_SEPARATOR = "|"
_NAME = re.compile(r"step_(\d+)")


@dataclass
class Trained:
    """What a checkpoint saves and restores in place: networks and optimizers by name, the fp16 gradient scaler."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Any]
    scaler: Any | None = None
    stateful: Mapping[str, Stateful] = field(default_factory=dict)
    """What else has a state, by the name that messages call it."""
    new_options: Collection[str] = ()
    """Options of the optimizers that are not restored, since the run is resumed with others."""


def write_checkpoint(
    checkpoints: Path, step: int, trained: Trained, progress: Mapping[str, Any], keep: int, best: int | None = None,
    states: Mapping[str, Sequence[SavedState]] | None = None,
) -> None:  # fmt: skip
    """Write the checkpoint of ``step``, or only its ``progress`` and states when it is there, and remove all but the
    last ``keep`` and the best.

    ``states`` are those of ``trained.stateful`` by name and rank, where there are several processes.

    A checkpoint is written aside and renamed into place; at no moment is there none where there was one.

    Raises:
        WriteError: the disk is full, or writing is not allowed; earlier checkpoints stay whole.
    """
    folder = checkpoints / f"step_{step:08}"
    if states is None:
        states = {name: [state] for name, state in take_states(trained.stateful).items()}
    with os_errors_described(folder):
        if folder.is_dir():
            _write_record(folder, {**_read_record(folder), **progress}, states)
        else:
            _write_aside(folder, step, trained, progress, states)
    for old in _checkpoint_folders(checkpoints)[:-keep]:
        if _step_of(old) != best:
            shutil.rmtree(old, ignore_errors=True)


def _write_aside(
    folder: Path, step: int, trained: Trained, progress: Mapping[str, Any], states: Mapping[str, Sequence[SavedState]]
) -> None:
    aside = unfinished(folder)
    try:
        aside.mkdir(parents=True)
        _write_record(aside, {**progress, **_write_tensors(aside, step, trained)}, states)
        aside.replace(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def refuse_different(accelerator: Accelerator, folder: Path, progress: Mapping[str, Any]) -> None:
    """Raise RunDirError where the processes have read different checkpoints, by the step and checksums of each."""
    found = all_gather_text(accelerator, json.dumps([progress["step"], progress["sha256"]]))
    if len(set(found)) > 1:
        steps = ", ".join(f"process {rank}: step {json.loads(text)[0]}" for rank, text in enumerate(found))
        raise RunDirError(
            f"{folder}: the processes find different checkpoints there ({steps}). All machines must see one folder, "
            "and every copy of a checkpoint must be whole"
        )


def set_aside_after(checkpoints: Path, step: int) -> None:
    """Rename the checkpoints of steps after ``step``, which are damaged: they must not count among the last ones."""
    for folder in _checkpoint_folders(checkpoints):
        if _step_of(folder) > step:
            damaged = folder.with_name(f"damaged_{folder.name}")
            with os_errors_described(folder):
                shutil.rmtree(damaged, ignore_errors=True)
                folder.replace(damaged)


def read_checkpoint(
    checkpoints: Path, trained: Trained, rank: int = 0, processes: int = 1
) -> tuple[dict[str, Any], list[str]]:
    """Restore the last whole checkpoint into ``trained``, on process ``rank`` of several.

    Returns the progress that was saved with it, ``step`` included, and a notice for each later one that is damaged and
    for each state that cannot be what it was.

    Raises:
        RunDirError: there is none, all are damaged, or it is of other networks or of another version of p2pkit.
    """
    folders = _checkpoint_folders(checkpoints)
    damaged: list[str] = []
    for folder in reversed(folders):
        try:
            progress, weights, moments = _read_contents(folder)
        except P2PKitError:
            raise
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = visible(first_line(error))
            damaged.append(f"{folder}: this checkpoint is damaged ({why}); the one before it is used")
            continue
        try:
            refuse_not_finite(folder / _NETWORKS, weights, network_tensors(trained))
            _restore(trained, weights, moments, progress)
        except ModelFileError as error:
            raise RunDirError(str(error)) from error
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise RunDirError(
                f"{folder}: the checkpoint is of other networks than the recipe's: {shortened(error)}"
            ) from error
        return progress, damaged + _restore_states(folder, trained, progress["states"], rank, processes)
    why = "\n".join(["all checkpoints are damaged:", *damaged]) if damaged else "there is no checkpoint to resume from"
    raise RunDirError(f"{checkpoints.parent}: {why}; start the run anew")


def read_networks(checkpoints: Path) -> dict[str, dict[str, Tensor]]:
    """The weights and buffers of each network in the last checkpoint that is whole; empty where there is none."""
    for folder in reversed(_checkpoint_folders(checkpoints)):
        with suppress(SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
            _, weights, _ = _read_contents(folder)
            names = dict.fromkeys(key.partition(_SEPARATOR)[0] for key in weights)
            return {name: _without_head(name, weights) for name in names}
    return {}


def read_identities(checkpoints: Path) -> dict[str, Identity]:
    """Which run each checkpoint is of, by its folder's name, the earliest first; without those of a damaged record.

    Raises:
        RunDirError: one is of another version of p2pkit.
        ReadError: the system does not let one be read.
    """
    found = {}
    for folder in _checkpoint_folders(checkpoints):
        try:
            found[folder.name] = Identity.from_json(_read_record(folder)["run"])
        except P2PKitError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _read_contents(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Progress, weights and moments in a checkpoint, once their checksums are found to be right."""
    progress = _read_record(folder)
    for name, expected in progress["sha256"].items():
        if _sha256(folder / name) != expected:
            raise ValueError(f"the checksum of {name} is wrong")
    return progress, load_file(folder / _NETWORKS), load_file(folder / _OPTIMIZERS)


def _read_record(folder: Path) -> dict[str, Any]:
    """What a checkpoint says in JSON, once its checksum is found to be right."""
    record: dict[str, Any] = json.loads(read_regular(folder / _PROGRESS))
    if type(record["format_version"]) is not int:
        raise ValueError(f"the format version is {record['format_version']!r}")
    if record["format_version"] > FORMAT_VERSION:
        raise RunDirError(f"{folder}: a checkpoint of a later p2pkit; upgrade to resume from it")
    if record["format_version"] < FORMAT_VERSION:
        raise RunDirError(
            f"{folder}: a checkpoint of an earlier p2pkit, which this one cannot resume from; resume with the version "
            "that environment.json in the run folder names, or train anew"
        )
    if record.pop(_OWN_CHECKSUM) != _sha256_of(record):
        raise ValueError(f"the checksum of {_PROGRESS} is wrong")
    refuse_unlikely(record, Progress)
    files = {each["file"] for of_ranks in record["states"].values() for each in of_ranks} - {None}
    if record["step"] != _step_of(folder) or not {_NETWORKS, _OPTIMIZERS, *files} <= record["sha256"].keys():
        raise ValueError(f"{_PROGRESS} is of another step, or of other files")
    Identity.from_json(record["run"])
    return record


def _write_record(folder: Path, record: Mapping[str, Any], states: Mapping[str, Sequence[SavedState]]) -> None:
    """Write what a checkpoint says in JSON, the states among it, and before that the files of their tensors."""
    checksums = {name: record["sha256"][name] for name in (_NETWORKS, _OPTIMIZERS)}
    saved: dict[str, list[dict[str, Any]]] = {}
    for component, of_ranks in states.items():
        saved[component] = []
        for value, tensors in of_ranks:
            checksum = hashlib.sha256(tensors).hexdigest()
            file = f"state_{checksum[:16]}.safetensors" if tensors else None
            saved[component].append({"value": value, "file": file})
            if file is not None:
                checksums[file] = checksum
                # under a name of its own: until the record is written, the one that is there needs the earlier file
                with atomic_write(folder / file) as aside:
                    aside.write_bytes(tensors)
    record = {"run": Identity().as_json(), **record, "states": saved, "sha256": checksums}
    write_json(folder / _PROGRESS, {**record, _OWN_CHECKSUM: _sha256_of(record)})
    for written in folder.glob("state_*.safetensors"):
        if written.name not in checksums:
            written.unlink()


def _sha256_of(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _checkpoint_folders(checkpoints: Path) -> list[Path]:
    """The checkpoints that are there, the earliest first."""
    found = (folder for folder in checkpoints.glob("step_*") if folder.is_dir() and _NAME.fullmatch(folder.name))
    return sorted(found, key=_step_of)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _write_tensors(folder: Path, step: int, trained: Trained) -> dict[str, Any]:
    """Write weights and moments; what the record has to say of them."""
    moments: dict[str, Tensor] = {}
    optimizers: dict[str, Any] = {}
    for network, optimizer in trained.optimizers.items():
        own, optimizers[network] = optimizer_state(trained.networks[network], optimizer)
        moments |= _with_head(network, own)
    for name, tensors in ((_NETWORKS, network_tensors(trained)), (_OPTIMIZERS, _on_cpu(moments))):
        with atomic_write(folder / name) as aside:
            save_file(tensors, aside)
    return {
        "format_version": FORMAT_VERSION,
        "step": step,
        "optimizers": optimizers,
        "scaler": trained.scaler.state_dict() if trained.scaler is not None else None,
        "sha256": {name: _sha256(folder / name) for name in (_NETWORKS, _OPTIMIZERS)},
    }


def network_tensors(trained: Trained) -> dict[str, Tensor]:
    """The weights and buffers of all networks by ``NETWORK|NAME``, as a file takes them."""
    tensors: dict[str, Tensor] = {}
    for network, module in trained.networks.items():
        tensors |= _with_head(network, module.state_dict())
    return _on_cpu(tensors)


def load_networks(trained: Trained, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`network_tensors` has taken out. Raises RuntimeError where it does not fit."""
    for network, module in trained.networks.items():
        module.load_state_dict(_without_head(network, tensors))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def optimizer_state(network: nn.Module, optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's tensors by ``PARAMETER|KEY``, and what else it keeps: options, and numbers beside the tensors."""
    state = optimizer.state_dict()
    names = _names_in(optimizer, network)
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for number, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[names[number] + _SEPARATOR + key] = value
            else:
                numbers.setdefault(names[number], {})[key] = value
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, {"groups": groups, "numbers": numbers}


def _names_in(optimizer: Any, network: nn.Module) -> list[str]:
    """The names of an optimizer's parameters as its state numbers them: group by group, not as the network has them."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def restore_optimizer(
    network: nn.Module, optimizer: Any, tensors: Mapping[str, Tensor], rest: Mapping[str, Any],
    new_options: Collection[str] = (),
) -> None:  # fmt: skip
    """Put back what :func:`optimizer_state` has taken out, after ``rest`` has been through JSON.

    ``new_options`` stay as the optimizer was made with them.
    """
    parameters = dict(network.named_parameters())
    numbers = {name: number for number, name in enumerate(_names_in(optimizer, network))}
    state: dict[int, dict[str, Any]] = {numbers[name]: dict(values) for name, values in rest["numbers"].items()}
    for path, tensor in tensors.items():
        name, key = path.split(_SEPARATOR)
        state.setdefault(numbers[name], {})[key] = _laid_out_like(parameters[name], tensor)
    for group, present in zip(rest["groups"], optimizer.param_groups, strict=True):
        for key, value in group.items():
            _refuse_other_option(key, value, present.get(key))
    groups = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        | {key: present[key] for key in ("params", *new_options) if key in present}
        for group, present in zip(rest["groups"], optimizer.state_dict()["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _refuse_other_option(key: str, saved: Any, present: Any) -> None:
    """Raise ValueError where a number of an optimizer is none in the checkpoint, or is not finite."""
    pairs = [(saved, present)]
    if isinstance(saved, list | tuple) and isinstance(present, list | tuple):
        pairs = list(zip(saved, present, strict=True))
    for one, own in pairs:
        if type(own) is float and not (type(one) in (int, float) and math.isfinite(one)):
            raise ValueError(f"the option {key} of an optimizer is {one!r}")


def _restore(
    trained: Trained, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], progress: Mapping[str, Any]
) -> None:
    load_networks(trained, weights)
    for network, optimizer in trained.optimizers.items():
        saved = progress["optimizers"][network]
        own = _without_head(network, moments)
        restore_optimizer(trained.networks[network], optimizer, own, saved, trained.new_options)
    if trained.scaler is not None and progress["scaler"] is not None:
        trained.scaler.load_state_dict(progress["scaler"])


def _restore_states(
    folder: Path, trained: Trained, states: Mapping[str, Sequence[Mapping[str, Any]]], rank: int, processes: int
) -> list[str]:
    """Put the states of this process back; a notice for each that goes on otherwise than it was."""
    notices = [
        f"{name} has a state, and the checkpoint none: it begins anew" for name in trained.stateful.keys() - states
    ]
    for name, of_ranks in states.items():
        if name not in trained.stateful:
            notices.append(f"{name} has a state in the checkpoint, and none in this run: that is left out")
            continue
        saved, device = of_ranks[rank % len(of_ranks)], next(next(iter(trained.networks.values())).parameters()).device
        try:
            tensors = load_file(folder / saved["file"]) if saved["file"] else {}
            put_back(trained.stateful[name], saved["value"], tensors, device)
        except (RecipeError, SafetensorError) as error:
            raise RunDirError(f"{folder}: {name}: {error}") from error
        if len(of_ranks) not in (1, processes):
            notices.append(
                f"{name} had a state of its own on each of {len(of_ranks)} processes; this run has {processes}, so it "
                "resumes with one of these on each, and not exactly"
            )
    return notices


def _laid_out_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """``moment`` in the memory layout of its parameter, as the optimizer made it; a file knows one layout only."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype, device=moment.device).copy_(moment)


def _with_head(network: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {network + _SEPARATOR + name: tensor for name, tensor in tensors.items()}


def _without_head(network: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = network + _SEPARATOR
    return {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}
