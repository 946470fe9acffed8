"""Every point at which p2pkit can be extended: one hook a kind.

A plugin implements any of these with ``@p2pkit.hookimpl`` and registers factories by name. A factory is any callable
that makes a component: its parameters are its recipe keys, its docstring is their documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import click

PROJECT = "p2pkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


Rest = Callable[[], None] | None
"""What a hook that offers components may return: a function that registers more of them, which take long to find.
It is called when a name is asked for that the hook's distribution has not offered yet, or when all names are."""


class Register(Protocol):
    """What a hook is given to offer its components with."""

    def __call__(self, name: str, factory: Any) -> None:
        """Offer ``factory`` under ``name``."""
        ...


@hookspec
def register_generators(register: Register) -> Rest:
    """Generators: source [N, Cs, H, W] in [-1, 1] to target [N, Ct, H, W] in [-1, 1]."""


@hookspec
def register_discriminators(register: Register) -> Rest:
    """Discriminators: ``(source, image)`` to logits [N, 1, h, w], a list of them, or a DiscriminatorOutput."""


@hookspec
def register_losses(register: Register) -> Rest:
    """Losses: a view of the step to the generator's term, the discriminator's, or both; or (output, target) to one."""


@hookspec
def register_datasets(register: Register) -> Rest:
    """Data sets: map-style, each index a pair of pixel arrays as stored."""


@hookspec
def register_methods(register: Register) -> Rest:
    """Methods: who names the networks and owns the training step."""


@hookspec
def register_metrics(register: Register) -> Rest:
    """Metrics, with torchmetrics' interface: outputs and targets to numbers."""


@hookspec
def register_exporters(register: Register) -> Rest:
    """Exporters: a generator written in another format."""


@hookspec
def register_encodings(register: Register) -> Rest:
    """Encodings: what networks see in place of a source, such as one channel a class of a label map."""


@hookspec
def register_image_formats(register: Register) -> Rest:
    """Image formats: files of pixels, known by their endings or beginnings, read and perhaps written."""


@hookspec
def register_augmentations(register: Register) -> Rest:
    """Augmentations: source and target of a training sample, tv_tensors [C, H, W] in [0, 1], to two such images."""


@hookspec
def register_optimizers(register: Register) -> Rest:
    """Optimizers: a network's parameters to a torch.optim.Optimizer."""


@hookspec
def register_schedules(register: Register) -> Rest:
    """Schedules: the learning rate's factor as a function of the place in the run."""


@hookspec
def register_callbacks(register: Register) -> Rest:
    """Callbacks: called after the steps, validations and checkpoints of a run, which they may end."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Commands of the program: add them to ``cli``. Called at every start, so import what is heavy inside them."""


@hookspec
def register_data_commands(data: click.Group) -> None:
    """Commands below ``p2pkit data``: add them to ``data``, and import what is heavy inside them."""
