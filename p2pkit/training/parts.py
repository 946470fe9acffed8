"""What a run is made of, live: networks, losses, method and metrics, each built once from the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from p2pkit.contracts import Method, WeightedLoss
from p2pkit.data.augmentation import Augmentation, SampleSpec
from p2pkit.data.samples import Samples
from p2pkit.evaluation.validation import Validation
from p2pkit.inference.model_header import ModelHeader
from p2pkit.networks.encoding import SourcePart
from p2pkit.run_contracts import Schedule
from p2pkit.settings import LoaderSettings, RunSettings, TrainSettings


@dataclass(frozen=True)
class TrainingParts:
    """Everything that a run is made of, live."""

    run: RunSettings
    loader: LoaderSettings
    train: TrainSettings
    train_set: Samples
    spec: SampleSpec
    """What all samples have in common, and how their values become those of tensors."""
    augmentation: Augmentation
    generator: nn.Module
    """As it was built; the method holds it as it is trained."""
    discriminator: nn.Module | None
    """None where the method trains without one."""
    losses: Sequence[WeightedLoss]
    """The recipe's; a method that asks for them has the same objects."""
    method: Method
    optimizers: Mapping[str, Callable[..., Any]]
    """What makes each network's optimizer: called with its parameters as ``params``, gives a torch.optim.Optimizer."""
    clip_gradient_norm: Mapping[str, float | None]
    """The norm that each network's gradients are scaled down to."""
    schedule: Schedule
    warmup: int
    """Steps over which the learning rates rise to what the schedule says."""
    validation: Validation
    header: ModelHeader
    """The model file's header, but for step and metrics."""
    sources: Sequence[SourcePart]
    """What the sources are, in the order of their channels, each with its encoding, if it has one."""
    origins: Mapping[str, str]
    """What messages call each component, with its distribution: "generator", "discriminator", "method", "encoding",
    "schedule", "losses.NAME", "optimizer.NETWORK" and "callbacks.NAME" to text such as "generator 'unet' of
    p2pkit 0.1.0"."""
    callbacks: Mapping[str, Any] = field(default_factory=dict)
    """By "callbacks.NAME"."""
