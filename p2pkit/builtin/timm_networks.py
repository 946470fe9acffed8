"""timm's networks as feature extractors for images in [-1, 1]: named, made, given weights, held still."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from p2pkit.builtin.weights import pretrained_file, read_weights
from p2pkit.errors import DataError, RecipeError, counted, did_you_mean, first_line

RESERVED = frozenset(
    {"model_name", "in_chans", "features_only", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
     "checkpoint_path", "cache_dir"}
)  # fmt: skip
"""Arguments of timm.create_model that parameters of components stand for, or that would load what is not checked."""


def _known(name: str) -> str:
    """``name`` if timm has such a network, and such weights where it names them (as in "resnet18.a1_in1k")."""
    import timm  # here, because it takes a second that other components need not pay for

    architecture, _, weights = name.partition(".")
    if not timm.is_model(architecture):
        names = timm.list_models()
        raise ValueError(f"the name of a network of timm{did_you_mean(architecture, names)}")
    if weights and not timm.models.is_model_pretrained(name):
        names = timm.list_pretrained(f"{architecture}.*")
        raise ValueError(f"weights that timm knows for {architecture!r}{did_you_mean(name, names)}")
    return name


Backbone = Annotated[str, AfterValidator(_known)]
"""The name of a network of timm."""
Arguments = dict[str, Any]
"""Arguments of a network's own, which go to timm.create_model."""


class FeatureNetwork(nn.Module):
    """A network of timm that maps images [N, C, H, W] in [-1, 1] to its feature maps [N, c, h, w], the finest first.

    Images are normalised as the network's weights expect: by its own mean and standard deviation for three channels,
    by the means of these for other numbers, to which timm adapts the first convolution.

    Args:
        backbone: the network's name.
        channels: of the images.
        pretrained: take the published weights, from the Hugging Face cache or the network.
        weights: a file with weights, in their stead.
        arguments: what else timm.create_model is given.
        own: what the component itself sets among these.

    Raises:
        RecipeError: timm cannot make it so, or the weights are not those of this network.
        DataError: the weights cannot be read, or cannot be had.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        backbone: str,
        channels: int,
        pretrained: bool,
        weights: Path | None,
        arguments: Mapping[str, Any] | None,
        **own: Any,
    ) -> None:
        super().__init__()
        refused = sorted((arguments or {}).keys() & (RESERVED | own.keys()))
        if refused:
            raise RecipeError(f"timm.{refused[0]}: not an argument for this table; the component's own keys say it")
        file = weights or (pretrained_file(backbone) if pretrained else None)
        self._backbone = backbone
        self.network = _made(backbone, channels, file, {**own, **(arguments or {})})
        config: Mapping[str, Any] = self.network.pretrained_cfg
        mean, std = (torch.tensor(config[name], dtype=torch.float32) for name in ("mean", "std"))
        if len(mean) != channels:
            mean, std = (value.mean().expand(channels) for value in (mean, std))
        # kept with the weights, which hold for these values alone
        self.register_buffer("scale", (0.5 / std)[:, None, None].clone())
        self.register_buffer("shift", ((0.5 - mean) / std)[:, None, None].clone())
        self.channels: list[int] = self.network.feature_info.channels()
        self.reductions: list[int] = self.network.feature_info.reduction()
        """By how much each map is smaller than the image."""
        layout = getattr(self.network, "output_fmt", None)
        self._channels_last = getattr(layout, "value", layout) == "NHWC"

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images [N, C, H, W] in [-1, 1] to feature maps [N, c, h, w].

        Raises:
            DataError: the network takes no images of this size.
        """
        try:
            maps: list[Tensor] = self.network(image * self.scale + self.shift)
        except AssertionError as error:  # that is how timm's transformers refuse a size
            size = f"{image.shape[2]}x{image.shape[3]}"
            raise DataError(
                f"{self._backbone!r} of timm takes no images of {size} (height x width): {first_line(error)} Its table "
                "of arguments may allow others: dynamic_img_size = true for vit, strict_img_size = false for swin"
            ) from error
        return [one.permute(0, 3, 1, 2) for one in maps] if self._channels_last else maps

    def rest_what_is_unused(self) -> None:
        """Take from training what no map depends on: some networks run on after the last of ``out_indices``.

        Processes that train together would wait for its gradients.
        """
        copy: Any = deepcopy(self.network).to("meta").eval()
        _, height, width = self.network.pretrained_cfg["input_size"]
        try:
            maps = copy(torch.zeros(1, len(self.scale), height, width, device="meta"))
        except (RuntimeError, NotImplementedError, AssertionError):
            return  # made for another size, or one that cannot be followed without values
        torch.autograd.backward([one.sum() for one in maps])
        for name, parameter in copy.named_parameters():
            if parameter.grad is None:
                self.network.get_parameter(name).requires_grad_(False)


class FrozenFeatures(FeatureNetwork):
    """A feature network that is not trained: gradients flow through it to the image, and it is always in eval mode.

    Its weights are buffers, so that no optimizer, count or synchronisation of parameters meets them. A grey image is
    repeated to three channels, which is what such weights know.
    """

    def __init__(self, backbone: str, channels: int, *rest: Any, **own: Any) -> None:
        super().__init__(backbone, 3 if channels == 1 else channels, *rest, **own)
        self.eval()
        for module in self.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images [N, C, H, W] in [-1, 1] to feature maps [N, c, h, w]."""
        return super().forward(image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image)


def _made(backbone: str, channels: int, file: Path | None, arguments: Mapping[str, Any]) -> Any:
    """The network itself, with the weights in ``file`` or with initial ones."""
    device = torch.get_default_device()
    # for real even where only sizes are wanted (on the meta device): wrong weights are noticed, and some networks look
    # at their own as they are made
    with torch.device("cpu"):
        if file is None:
            return _created(backbone, channels, arguments).to(device)
        return _loaded(backbone, channels, file, arguments).to(device)


def _loaded(backbone: str, channels: int, file: Path, arguments: Mapping[str, Any]) -> Any:
    weights, twice = read_weights(file), []
    with torch.random.fork_rng(devices=[]):
        for seed in range(2):
            torch.manual_seed(seed)
            overlay = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(weights)}}
            try:
                network = _created(backbone, channels, {**arguments, **overlay})
            except RecipeError as error:
                raise RecipeError(f"{file}: it does not hold the weights of {backbone!r}: {error}") from error
            network.pretrained_cfg.pop("state_dict", None)
            twice.append(network)
    # timm passes over weights that a file lacks; what chance has left its mark on was not in the file
    pairs = zip(twice[0].named_parameters(), twice[1].parameters(), strict=True)
    lacking = [name for (name, one), other in pairs if not torch.equal(one, other)]
    if lacking:
        raise RecipeError(
            f"{file}: it does not hold the weights of {backbone!r} for {counted(channels, 'channel')}: "
            f"{len(lacking)} of them are missing, {lacking[0]} the first"
        )
    return twice[0]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep back that a file holds more than features need, a classifier say."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _created(backbone: str, channels: int, arguments: Mapping[str, Any]) -> Any:
    import timm

    try:
        with _without_warnings():
            return timm.create_model(backbone, features_only=True, in_chans=channels, **arguments)
    except Exception as error:  # there are a thousand networks, and as many ways to refuse an argument
        shown = {name: value for name, value in arguments.items() if not name.startswith("pretrained")}
        given = ", ".join(f"{name} = {value!r}" for name, value in shown.items()) or "its defaults"
        raise RecipeError(
            f"timm cannot make {backbone!r} give features with {given}: {type(error).__name__}: {first_line(error)}"
        ) from error
