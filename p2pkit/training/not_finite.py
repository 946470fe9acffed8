"""A step whose loss was not a finite number: left in the run folder, and made again to see where it began."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from p2pkit.contracts import Batch, Method, Terms, TermsOfPart
from p2pkit.data.loader import on_device
from p2pkit.distributed.collectives import on_every_process, on_main_process
from p2pkit.errors import RunDirError, reason, shortened
from p2pkit.run_records import Left, refuse_unlikely
from p2pkit.training.checkpoint import Trained, load_networks, network_tensors
from p2pkit.training.identity import Identity
from p2pkit.training.update import parts_of
from p2pkit.utils.atomic import atomic_write
from p2pkit.utils.opening import ReadError
from p2pkit.utils.seeds import seed_step
from p2pkit.utils.tensor_file import read_contents, read_tensors

_NETWORKS = "networks.safetensors"
_PROCESS = re.compile(r"process_(\d+)\.safetensors")
_STEP = re.compile(r"step_(\d+)")


def keep_step(
    accelerator: Accelerator, folder: Path, batch: Batch, progress: float, trained: Trained, identity: Identity
) -> None:
    """Write the batch of all processes, each its share, and the networks as they are into ``folder``, anew.

    ``progress`` is how far the run is (contracts.Update), ``identity`` which run it is.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
        ProcessLost: it was so on another process.
    """
    # another number of processes may have failed here before
    on_main_process(accelerator, partial(shutil.rmtree, folder, ignore_errors=True))
    networks, rank = trained if accelerator.is_main_process else None, accelerator.process_index
    on_every_process(accelerator, partial(leave_step, folder, batch, progress, rank, networks, identity))


def leave_step(
    folder: Path, batch: Batch, progress: float, rank: int, trained: Trained | None, identity: Identity
) -> None:
    """Write a process's share of a batch into ``folder`` and, where ``trained`` is given, the networks as they are.

    ``progress`` is how far the run is (contracts.Update), ``identity`` which run it is.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    tensors = {"source": batch.source.contiguous(), "target": batch.target.contiguous()}
    if batch.mask is not None:
        tensors["mask"] = batch.mask.contiguous()
    left = {"keys": batch.keys, "progress": progress, "run": identity.as_json()}
    with atomic_write(folder / f"process_{rank}.safetensors") as aside:
        save_file(tensors, aside, metadata={"left": json.dumps(left)})
    if trained is not None:
        with atomic_write(folder / _NETWORKS) as aside:
            save_file(network_tensors(trained), aside)


def replay_step(
    folder: Path, trained: Trained, method: Method, accelerator: Accelerator, seed: int, accumulate: int
) -> Iterator[str]:
    """Make the step that was left in ``folder`` again, without changing a network; lines that say what is found.

    ``seed`` and ``accumulate`` are the recipe's. A step of several processes is made again share by share.

    Raises:
        RunDirError: it is no such folder, it is damaged, or it is of other networks.
        ReadError: the system does not let it be read now.
    """
    match, files = _STEP.fullmatch(folder.name), sorted(folder.glob("process_*.safetensors"))
    if match is None or not files or not (folder / _NETWORKS).is_file():
        raise RunDirError(f"{folder}: this is not a folder that a run has left; give RUN_DIR/not_finite/step_N")
    try:
        load_networks(trained, read_tensors(folder / _NETWORKS)[1])
        batches = {file: _read_batch(file) for file in files}
    except ReadError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise RunDirError(
            f"{folder}: it is damaged, or of other networks than the recipe's: {shortened(error)}"
        ) from error
    yield "the networks are as they were when it failed: those before in the step had been updated by then"
    for file, (batch, progress) in batches.items():
        named = _PROCESS.fullmatch(file.name)
        assert named is not None
        yield f"{file.name}: {', '.join(batch.keys)}"
        for side in ("source", "target", "mask"):
            if (values := getattr(batch, side)) is not None:
                yield f"  {side}: {_span(values)}"
        own = seed_step(seed, int(match[1]) - 1, int(named[1]))
        seen = _Seen(accelerator, trained, progress, on_device(batch, accelerator.device), accumulate, own)
        yield from _made_again(seen, method)


def left_by(folder: Path) -> Identity | None:
    """Which run has left the step in ``folder``, and by what it was trained; None where that is not known."""
    for file in sorted(folder.glob("process_*.safetensors")):
        with suppress(OSError, KeyError, ValueError, TypeError):
            return Identity.from_json(json.loads(read_contents(file).metadata["left"])["run"])
    return None


def _read_batch(file: Path) -> tuple[Batch, float]:
    """A process's share of a batch, and how far the run was."""
    contents, tensors = read_tensors(file)
    left = json.loads(contents.metadata["left"])
    batch = Batch(tensors["source"], tensors["target"], left["keys"], tensors.get("mask"))
    refuse_unlikely(left, Left)
    if any(one.ndim != 4 or not one.is_floating_point() or not one.numel() for one in (batch.source, batch.target)):
        raise ValueError("it does not hold images")
    return batch, left["progress"]


def _span(values: Tensor) -> str:
    if not values.isfinite().all():
        return f"{int((~values.isfinite()).sum())} of {values.numel()} values are not finite"
    return f"{float(values.min()):.4g} to {float(values.max()):.4g}"


def _made_again(seen: _Seen, method: Method) -> Iterator[str]:
    for name, network in seen.trained.networks.items():
        values = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        yield f"  weights of the {name}: {_span(values)}"
    with _watched(seen.trained.networks, seen.notes):
        try:
            method.train_step(seen.batch, seen)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise RunDirError(f"the step cannot be made again with what it has left: {reason(error)}") from error
    yield from (f"  {note}" for note in seen.notes)


@dataclass
class _Seen:
    """Takes the place of the optimisation (contracts.Update): notes terms and gradients, changes no weight."""

    accelerator: Accelerator
    trained: Trained
    progress: float
    batch: Batch
    accumulate: int
    seed: int
    notes: list[str] = field(default_factory=list)

    def __call__(
        self, networks: str | Sequence[str], terms: Terms | TermsOfPart, fixed: Iterable[nn.Parameter] = ()
    ) -> None:
        names = [networks] if isinstance(networks, str) else list(networks)
        parts = parts_of(self.batch, self.accumulate, self.seed)
        for own in map(terms, parts) if callable(terms) else (terms,):
            for name, term in own.items():
                finite = "" if term.isfinite() else "  <- not finite"
                self.notes.append(f"{names[0]}/{name} = {float(term.detach()):.6g}{finite}")
            if own:
                self.accelerator.backward(torch.stack([term.float() for term in own.values()]).sum() / self.accumulate)
        for parameter in fixed:
            parameter.grad = None
        for name in names:
            parameters = list(self.trained.networks[name].parameters())
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            self.notes.append(f"gradient of the {name}: norm {float(norm):.6g}")
            for parameter in parameters:
                parameter.grad = None


@contextmanager
def _watched(networks: Mapping[str, nn.Module], notes: list[str]) -> Iterator[None]:
    """Note each network's first layer whose output is not finite, the first time that it happens."""
    found: set[str] = set()

    def look(layer: Any, given: tuple[Any, ...], output: Any, network: str, name: str) -> None:
        if network not in found and isinstance(output, Tensor) and not output.isfinite().all():
            found.add(network)
            fed = "from finite values" if all(_finite(value) for value in given) else "as what it was given"
            kind = type(layer).__name__
            notes.append(f"{network}: the output of {name} ({kind}) is the first that is not finite, {fed}")

    handles = [
        layer.register_forward_hook(partial(look, network=network, name=name))
        for network, module in networks.items()
        for name, layer in module.named_modules()
        if not list(layer.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(value.isfinite().all())
