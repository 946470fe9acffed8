"""What a discriminator promises (contracts.Discriminator)."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.contracts import Judgement
from p2pkit.testing.checks import Subject, promise, require
from p2pkit.testing.networks import (
    CHANNELS,
    images,
    made_without_weights,
    require_gradients,
    require_same_after_checkpoint,
    require_same_weights,
    require_trainable,
    train_a_step,
)
from p2pkit.training.step import StepView, frozen, judgement

SIZES = ((128, 160), (131, 157))
"""Height and width, even and odd ones."""


def _made(subject: Subject, seed: int = 0) -> Any:
    return subject.make(seed, **CHANNELS[0])


def _looked_at(subject: Subject, size: tuple[int, int] = SIZES[0], channels: int = 0) -> tuple[Tensor, Tensor]:
    """Sources and images for the numbers of channels at a place of CHANNELS."""
    source, target = (subject.supplied(name, value) for name, value in CHANNELS[channels].items())
    return images(source, *size), images(target, *size, seed=1)


def _judged(discriminator: nn.Module, source: Tensor, image: Tensor) -> Judgement:
    """What losses see of a discriminator's answer."""
    return StepView(source, image, image, discriminator).on_real


def _lowered(logits: list[Tensor]) -> Tensor:
    return torch.stack([(each - 1).square().mean() for each in logits]).mean()


@promise("it is a torch module with parameters to train")
def is_trainable(subject: Subject) -> None:
    """There is something for an optimizer."""
    require_trainable(_made(subject))


@promise("it gives finite logits [N, 1, h, w], a list of them or a Judgement, for any channels and for odd sizes too")
def gives_logits(subject: Subject) -> None:
    """The forms of an answer, with features asked for and without."""
    for place, channels in enumerate(CHANNELS):
        discriminator = subject.make(**channels)
        for size in SIZES:
            source, image = _looked_at(subject, size, place)
            for answer in (discriminator(source, image), _judged(discriminator, source, image)):
                _require_logits(answer, f"images {list(image.shape)}")


def _require_logits(answer: Any, of: str) -> None:
    known = isinstance(answer, Tensor | list | Judgement)
    require(known, f"{type(answer).__name__} instead of a tensor, a list or a Judgement")
    logits = judgement(answer).logits
    require(isinstance(logits, list) and logits, f"no list of logits, of {of}")
    for each in logits:
        require(isinstance(each, Tensor), f"logits that are {type(each).__name__}, of {of}")
        found = f"logits {list(each.shape)}, of {of}"
        require(each.ndim == 4 and list(each.shape[:2]) == [2, 1] and each.numel(), found)
        require(each.isfinite().all(), f"logits that are not finite, of {of}")


@promise("with has_features = True it takes features=True: it gives a Judgement with features, and logits as without")
def gives_features(subject: Subject) -> None:
    """Features are there, and asking for them changes nothing."""
    discriminator = _made(subject).eval()
    if not getattr(discriminator, "has_features", False):
        return
    source, image = _looked_at(subject)
    answer = discriminator(source, image, features=True)
    require(isinstance(answer, Judgement), f"{type(answer).__name__} instead of a Judgement")
    batched = all(isinstance(each, Tensor) and len(each) == len(image) for each in answer.features)
    require(answer.features and batched, "no features, or some that are no tensors [N, ...]")
    without = judgement(discriminator(source, image)).logits
    same = len(without) == len(answer.logits) and all(map(torch.allclose, without, answer.logits))
    require(same, "other logits with features than without")


@promise("every trainable parameter gets a gradient")
def learns(subject: Subject) -> None:
    """All weights take part in the logits."""
    discriminator = _made(subject)
    seen = _looked_at(subject)
    require_gradients(discriminator, lambda: _lowered(judgement(discriminator(*seen)).logits))


@promise("held still (training_step.frozen), it passes gradients on to the image and keeps none itself")
def can_be_frozen(subject: Subject) -> None:
    """The generator learns from it without it learning."""
    discriminator = _made(subject)
    source, image = _looked_at(subject)
    image.requires_grad_()
    with frozen(discriminator):
        loss = _lowered(_judged(discriminator, source, image).logits)
    require(loss.requires_grad, "no gradient reaches the image")
    loss.backward()  # type: ignore[no-untyped-call]
    require(image.grad is not None and image.grad.any(), "no gradient reaches the image")
    kept = [name for name, parameter in discriminator.named_parameters() if parameter.grad is not None]
    require(not kept, f"gradients kept by {', '.join(kept)}")


@promise("its weights, and all that it draws in training, depend on the seed alone")
def follows_the_seed(subject: Subject) -> None:
    """Two made from one seed are equal, and so are their logits."""
    first, second = _made(subject), _made(subject)
    require_same_weights(first, second, "weights differ between two made from one seed")
    logits = []
    for discriminator in (first, second):
        set_seed(1)
        logits.append(judgement(discriminator(*_looked_at(subject))).logits)
    require(all(map(torch.equal, *logits)), "images and seed are the same, logits are not")


@promise("weights saved after a step of training, and loaded into another one like it, give the same logits")
def can_be_saved(subject: Subject) -> None:
    """A checkpoint has all that was learnt, in tensors that safetensors takes."""
    discriminator, anew = _made(subject), _made(subject, seed=1)
    seen = _looked_at(subject)
    optimizer = train_a_step(discriminator, lambda: _lowered(judgement(discriminator(*seen)).logits))
    require_same_after_checkpoint(discriminator, anew, optimizer, lambda each: judgement(each.eval()(*seen)).logits)


@promise("`p2pkit check` can try it: made on the meta device, without weights, it can be called there")
def can_be_tried(subject: Subject) -> None:
    """Neither making nor calling it asks for values that are not there."""
    discriminator = made_without_weights(lambda: _made(subject))
    device = next(discriminator.parameters()).device
    with torch.no_grad():
        discriminator(*(each.to(device) for each in _looked_at(subject)))


PROMISES = (
    is_trainable, gives_logits, gives_features, learns, can_be_frozen, follows_the_seed, can_be_saved, can_be_tried,
)  # fmt: skip
