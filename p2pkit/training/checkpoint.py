"""Checkpoints without pickle: tensors in safetensors, everything else in JSON, each folder whole or not there.

``step_00000500/`` holds networks.safetensors, optimizers.safetensors and progress.json: enough to resume exactly. The
tensors of what else has a state (a method's image pool) are in ``state_CHECKSUM.safetensors``, a file for each.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from p2pkit.contracts import Stateful
from p2pkit.distributed.collectives import all_gather_text
from p2pkit.errors import ModelFileError, RecipeError, RunDirError, first_line, shortened, visible
from p2pkit.inference.model_file import refuse_not_finite
from p2pkit.run_records import Progress, refuse_unlikely
from p2pkit.training.identity import Identity
from p2pkit.training.optimizer_state import SEPARATOR, optimizer_state, restore_optimizer
from p2pkit.training.state_dicts import SavedState, put_back, take_states
from p2pkit.utils.atomic import atomic_write, folder_aside, os_errors_described, sync, write_json
from p2pkit.utils.opening import IrregularFile, ReadError, folders_in, is_listed, read_regular
from p2pkit.utils.tensor_file import DamagedFile, read_tensors

FORMAT_VERSION = 4
_NETWORKS, _OPTIMIZERS, _PROGRESS = "networks.safetensors", "optimizers.safetensors", "progress.json"
_OWN_CHECKSUM = "sha256_of_the_rest"
_NAME = re.compile(r"step_([0-9]{8}|[1-9][0-9]{8,})")
"""The names that checkpoints are given; what is called otherwise is somebody else's."""


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
            try:
                progress = {**_read_record(folder), **progress}
                _write_record(folder, progress, states)
            except DamagedFile:
                set_aside_after(checkpoints, step - 1)
        if not folder.is_dir():
            _write_aside(folder, step, trained, progress, states)
    for old in _checkpoint_folders(checkpoints)[:-keep]:
        if _step_of(old) != best:
            shutil.rmtree(old, ignore_errors=True)


def _write_aside(
    folder: Path, step: int, trained: Trained, progress: Mapping[str, Any], states: Mapping[str, Sequence[SavedState]]
) -> None:
    with folder_aside(folder) as aside:
        _write_record(aside, {**progress, **_write_tensors(aside, step, trained)}, states)
        aside.replace(folder)
        sync(folder.parent)


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
    """Rename the checkpoints of steps after ``step``, which are damaged: they must not count among the last ones.

    Raises:
        WriteError: the system does not let one be renamed.
    """
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
        ReadError: the system does not let one be read now, which is no damage.
    """
    folders = _checkpoint_folders(checkpoints)
    damaged: list[str] = []
    for folder in reversed(folders):
        try:
            progress, tensors = _read_contents(folder)
        except DamagedFile as error:
            why = visible(first_line(error))
            damaged.append(f"{folder}: this checkpoint is damaged ({why}); the one before it is used")
            continue
        try:
            refuse_not_finite(folder / _NETWORKS, tensors[_NETWORKS], network_tensors(trained))
            _restore(trained, tensors, progress)
        except ModelFileError as error:
            raise RunDirError(str(error)) from error
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise RunDirError(
                f"{folder}: the checkpoint is of other networks than the recipe's: {shortened(error)}"
            ) from error
        return progress, damaged + _restore_states(folder, trained, progress["states"], tensors, rank, processes)
    why = "\n".join(["all checkpoints are damaged:", *damaged]) if damaged else "there is no checkpoint to resume from"
    raise RunDirError(f"{checkpoints.parent}: {why}; start the run anew")


def read_networks(checkpoints: Path) -> tuple[dict[str, dict[str, Tensor]], Identity, int]:
    """The weights and buffers of each network in the last checkpoint that is whole, whose they are and of which step.

    Where there is none, they are empty and it is step -1.

    Raises: as :func:`read_checkpoint`, but for none that is whole.
    """
    for folder in reversed(_checkpoint_folders(checkpoints)):
        try:
            progress, tensors = _read_contents(folder)
            identity = Identity.from_json(progress["run"])
        except DamagedFile:
            continue
        weights = tensors[_NETWORKS]
        names = dict.fromkeys(key.partition(SEPARATOR)[0] for key in weights)
        return {name: _without_head(name, weights) for name in names}, identity, progress["step"]
    return {}, Identity(), -1


def read_identities(checkpoints: Path) -> dict[str, Identity]:
    """Which run each checkpoint is of, by its folder's name, the earliest first; without those of a damaged record.

    Raises:
        RunDirError: one is of another version of p2pkit.
        ReadError: the system does not let one be read.
    """
    found = {}
    for folder in _checkpoint_folders(checkpoints):
        with suppress(DamagedFile):
            found[folder.name] = Identity.from_json(_read_record(folder)["run"])
    return found


def _read_contents(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The progress in a checkpoint, and the tensors in each of its files, once all checksums are found to be right.

    Raises: as :func:`_read_record`.
    """
    progress, tensors = _read_record(folder), dict[str, dict[str, Tensor]]()
    if progress["step"] != _step_of(folder):
        raise DamagedFile(f"{_PROGRESS}: it is of step {progress['step']}")
    for name, checksum in progress["sha256"].items():
        with _damage_told_apart(folder / name):
            tensors[name] = read_tensors(folder / name, checksum)[1]
    return progress, tensors


def _read_record(folder: Path) -> dict[str, Any]:
    """What a checkpoint says in JSON, once its checksum is found to be right.

    Raises:
        DamagedFile: it says nothing of the kind.
        RunDirError: it is of another version of p2pkit.
        ReadError: the system does not let it be read now.
    """
    with _damage_told_apart(folder / _PROGRESS):
        record: dict[str, Any] = json.loads(read_regular(folder / _PROGRESS))
        if type(record["format_version"]) is not int:
            raise DamagedFile(f"the format version is {record['format_version']!r}")
        if record["format_version"] > FORMAT_VERSION:
            raise RunDirError(f"{folder}: a checkpoint of a later p2pkit; upgrade to resume from it")
        if record["format_version"] < FORMAT_VERSION:
            raise RunDirError(
                f"{folder}: a checkpoint of an earlier p2pkit, which this one cannot resume from; resume with the "
                "version that environment.json in the run folder names, or train anew"
            )
        if record.pop(_OWN_CHECKSUM) != _sha256_of(record):
            raise DamagedFile("its checksum is wrong")
        refuse_unlikely(record, Progress)
        files = {each["file"] for of_ranks in record["states"].values() for each in of_ranks} - {None}
        if not {_NETWORKS, _OPTIMIZERS, *files} <= record["sha256"].keys():
            raise DamagedFile("it is of other files")
        Identity.from_json(record["run"])
        return record


@contextmanager
def _damage_told_apart(file: Path) -> Iterator[None]:
    """Let what the body finds wrong in a file be a DamagedFile that names it, what the system refuses a ReadError."""
    try:
        yield
    except (RunDirError, ReadError):
        raise
    except OSError as error:
        # a file that is not there is damage, but a share may say so of one that is
        if is_listed(file):
            raise ReadError(f"cannot read {file}: {error.strerror}; nothing has been changed") from error
        raise DamagedFile(f"{file.name}: {error.strerror}") from error
    except (IrregularFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{file.name}: {error}") from error


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
    return sorted((folder for folder in folders_in(checkpoints) if _NAME.fullmatch(folder.name)), key=_step_of)


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


def _restore(trained: Trained, tensors: Mapping[str, Mapping[str, Tensor]], progress: Mapping[str, Any]) -> None:
    load_networks(trained, tensors[_NETWORKS])
    for network, optimizer in trained.optimizers.items():
        saved = progress["optimizers"][network]
        own = _without_head(network, tensors[_OPTIMIZERS])
        restore_optimizer(trained.networks[network], optimizer, own, saved, trained.new_options)
    if trained.scaler is not None and progress["scaler"] is not None:
        trained.scaler.load_state_dict(progress["scaler"])


def _restore_states(
    folder: Path, trained: Trained, states: Mapping[str, Sequence[Mapping[str, Any]]],
    tensors: Mapping[str, Mapping[str, Tensor]], rank: int, processes: int,
) -> list[str]:  # fmt: skip
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
            own = tensors[saved["file"]] if saved["file"] else {}
            put_back(trained.stateful[name], saved["value"], own, device)
        except RecipeError as error:
            raise RunDirError(f"{folder}: {name}: {error}") from error
        if len(of_ranks) not in (1, processes):
            notices.append(
                f"{name} had a state of its own on each of {len(of_ranks)} processes; this run has {processes}, so it "
                "resumes with one of these on each, and not exactly"
            )
    return notices


def _with_head(network: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {network + SEPARATOR + name: tensor for name, tensor in tensors.items()}


def _without_head(network: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = network + SEPARATOR
    return {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}
