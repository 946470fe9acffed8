"""The contract of a discriminator (contracts.Discriminator)."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.contracts import DiscriminatorOutput
from p2pkit.testing.checks import Subject, contract, require
from p2pkit.testing.fixtures import TWO_SOURCES, encoded, half_mask, two_sources
from p2pkit.testing.networks import (
    CHANNELS,
    images,
    made_without_weights,
    require_gradients,
    require_no_gradient_without_weight,
    require_same_after_checkpoint,
    require_same_weights,
    require_trainable,
    train_a_step,
)
from p2pkit.training.step import StepContext, frozen

SIZES = ((128, 160), (131, 157))
"""Height and width, even and odd ones."""


def _made(subject: Subject, seed: int = 0) -> Any:
    return subject.make(seed, **CHANNELS[0])


def _inputs(subject: Subject, size: tuple[int, int] = SIZES[0], channels: int = 0) -> tuple[Tensor, Tensor]:
    """Sources and images for the numbers of channels at a place of CHANNELS."""
    source, target = (subject.supplied(name, value) for name, value in CHANNELS[channels].items())
    return images(source, *size), images(target, *size, seed=1)


def _output(discriminator: nn.Module, source: Tensor, image: Tensor) -> DiscriminatorOutput:
    """The output as losses see it."""
    return StepContext(source, image, image, discriminator).pred_real


def _lowered(logits: list[Tensor]) -> Tensor:
    return torch.stack([(each - 1).square().mean() for each in logits]).mean()


@contract("it is a torch module with parameters to train")
def is_trainable(subject: Subject) -> None:
    """There is something for an optimizer."""
    require_trainable(_made(subject))


@contract(
    "it gives finite logits [N, 1, h, w], a list of them or a DiscriminatorOutput, for any channels and odd sizes too"
)
def gives_logits(subject: Subject) -> None:
    """Every form of output, with features and without."""
    for place, channels in enumerate(CHANNELS):
        discriminator = subject.make(**channels)
        for size in SIZES:
            source, image = _inputs(subject, size, place)
            for output in (discriminator(source, image), _output(discriminator, source, image)):
                _require_logits(output, f"images {list(image.shape)}")


def _require_logits(output: Any, of: str) -> None:
    known = isinstance(output, Tensor | list | DiscriminatorOutput)
    require(known, f"{type(output).__name__} instead of a tensor, a list or a DiscriminatorOutput")
    logits = DiscriminatorOutput.of(output).logits
    require(isinstance(logits, list) and logits, f"no list of logits, of {of}")
    for each in logits:
        require(isinstance(each, Tensor), f"logits that are {type(each).__name__}, of {of}")
        found = f"logits {list(each.shape)}, of {of}"
        require(each.ndim == 4 and list(each.shape[:2]) == [2, 1] and each.numel(), found)
        require(each.isfinite().all(), f"logits that are not finite, of {of}")


@contract("with has_features = True it takes features=True: a DiscriminatorOutput with features, and logits as without")
def gives_features(subject: Subject) -> None:
    """Features are there, and asking for them changes nothing."""
    discriminator = _made(subject).eval()
    if not getattr(discriminator, "has_features", False):
        return
    source, image = _inputs(subject)
    output = discriminator(source, image, features=True)
    require(isinstance(output, DiscriminatorOutput), f"{type(output).__name__} instead of a DiscriminatorOutput")
    batched = all(isinstance(each, Tensor) and len(each) == len(image) for each in output.features)
    require(output.features and batched, "no features, or some that are not tensors [N, ...]")
    without = DiscriminatorOutput.of(discriminator(source, image)).logits
    same = len(without) == len(output.logits) and all(map(torch.allclose, without, output.logits))
    require(same, "other logits with features than without")


@contract("every trainable parameter gets a gradient")
def learns(subject: Subject) -> None:
    """All weights take part in the logits."""
    discriminator = _made(subject)
    seen = _inputs(subject)
    require_gradients(discriminator, lambda: _lowered(DiscriminatorOutput.of(discriminator(*seen)).logits))


@contract("frozen (p2pkit.training.step.frozen), it passes gradients on to the image and accumulates none itself")
def can_be_frozen(subject: Subject) -> None:
    """The generator trains against it while its own weights get no gradients."""
    discriminator = _made(subject)
    source, image = _inputs(subject)
    image.requires_grad_()
    with frozen(discriminator):
        loss = _lowered(_output(discriminator, source, image).logits)
    require(loss.requires_grad, "no gradient reaches the image")
    loss.backward()  # type: ignore[no-untyped-call]
    require(image.grad is not None and image.grad.any(), "no gradient reaches the image")
    with_gradients = [name for name, parameter in discriminator.named_parameters() if parameter.grad is not None]
    require(not with_gradients, f"gradients accumulated by {', '.join(with_gradients)}")


@contract("its weights, and all that it draws in training, depend on the seed alone")
def follows_the_seed(subject: Subject) -> None:
    """Two made from one seed are equal, and so are their logits."""
    first, second = _made(subject), _made(subject)
    require_same_weights(first, second, "weights differ between two made from one seed")
    logits = []
    for discriminator in (first, second):
        set_seed(1)
        logits.append(DiscriminatorOutput.of(discriminator(*_inputs(subject))).logits)
    require(all(map(torch.equal, *logits)), "images and seed are the same, logits are not")


@contract("weights saved after a step of training, and loaded into another one like it, give the same logits")
def can_be_saved(subject: Subject) -> None:
    """A checkpoint has all that was learnt, in tensors that safetensors takes."""
    discriminator, anew = _made(subject), _made(subject, seed=1)
    seen = _inputs(subject)
    optimizer = train_a_step(discriminator, lambda: _lowered(DiscriminatorOutput.of(discriminator(*seen)).logits))
    require_same_after_checkpoint(
        discriminator, anew, optimizer, lambda each: DiscriminatorOutput.of(each.eval()(*seen)).logits
    )


@contract("it takes several sources, one of them encoded, a mask, and images of twice the sources' size")
def takes_two_sources(subject: Subject) -> None:
    """A picture and a label map, one after another along the channels; nothing is learnt where the mask is 0."""
    channels, target = subject.supplied("source_channels", TWO_SOURCES), CHANNELS[0]["target_channels"]
    if channels < 2:
        return
    parts, (height, width) = two_sources(channels), SIZES[0]
    discriminator = encoded(subject.make(source_channels=channels, target_channels=target), parts, enlarged=True)
    source = images(sum(part.channels for part in parts), height // 2, width // 2)
    real, fake = (images(subject.supplied("target_channels", target), height, width, seed=seed) for seed in (1, 2))
    mask = half_mask(2, height, width)
    seen = StepContext(source, real, fake.requires_grad_(), discriminator, mask)
    train_a_step(discriminator, lambda: _lowered(seen.pred_real.logits) + _lowered(seen.pred_fake.logits))
    fake.grad = None
    with frozen(discriminator):
        output = StepContext(source, real, fake, discriminator, mask).pred_fake
    _require_logits(output.logits, "two sources")
    _lowered(output.logits).backward()  # type: ignore[no-untyped-call]
    require_no_gradient_without_weight(fake.grad, mask)


@contract("`p2pkit check` can try it: made on the meta device, in evaluation mode, it can be called there")
def can_be_tried(subject: Subject) -> None:
    """Neither making nor calling it asks for values that are not there, but in training mode."""
    discriminator = made_without_weights(lambda: _made(subject)).eval()
    device = next(discriminator.parameters()).device
    with torch.no_grad():
        discriminator(*(each.to(device) for each in _inputs(subject)))


CHECKS = (
    is_trainable, gives_logits, gives_features, learns, can_be_frozen, follows_the_seed, can_be_saved,
    takes_two_sources, can_be_tried,
)  # fmt: skip
