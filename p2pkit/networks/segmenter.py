"""Segmentation networks, and the file of one that was fitted: it says its classes, and how well it recognises them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from p2pkit.errors import DataError, P2PKitError, counted, first_line, visible
from p2pkit.networks.label_classes import MOST_CLASSES, LabelClasses
from p2pkit.utils.atomic import atomic_write
from p2pkit.utils.tensor_file import DamagedFile, checksum, read_tensors

FORMAT_VERSION = 1
KEY = "p2pkit_segmenter"
WIDTH = 16
"""Channels of the small network's first layer."""

NetworkName = Literal["small", "fcn_resnet50"]
Value = Annotated[float, Field(ge=0, le=1)]
Colours = Annotated[tuple[Annotated[tuple[Value, ...], Field(min_length=1, max_length=3)], ...], Field(max_length=1024)]
Text = Annotated[str, Field(max_length=100_000)]


class SmallNetwork(nn.Module):
    """A U-Net of three halvings with batch norm: images [N, C, H, W] in [0, 1] of any size to logits [N, K, H, W].

    Large enough for drawn scenes and for hundreds of photos; its receptive field is some 90 pixels.
    """

    def __init__(self, channels: int, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.first, steps = _block(channels, width), list(pairwise(widths))
        self.down = nn.ModuleList(nn.Sequential(_block(fewer, more, 2), _block(more, more)) for fewer, more in steps)
        self.up = nn.ModuleList(_block(more + fewer, fewer) for fewer, more in steps)
        self.logits = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Images in [0, 1] to logits of their size."""
        values = self.first(image * 2 - 1)
        passed = []
        for block in self.down:
            passed.append(values)
            values = block(values)
        for block, skip in zip(reversed(self.up), reversed(passed), strict=True):
            values = F.interpolate(values, skip.shape[2:], mode="nearest")
            values = block(torch.cat([values, skip], dim=1))
        logits: Tensor = self.logits(values)
        return logits


class FCNResNet50(nn.Module):
    """torchvision's fcn_resnet50 (Long et al. 2015): images [N, 3, H, W] in [0, 1] to logits [N, K, H, W].

    Gray images are repeated to three channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, classes: int) -> None:
        from torchvision.models.segmentation import fcn_resnet50

        super().__init__()
        if channels not in (1, 3):
            raise DataError(f"fcn_resnet50 takes photos of 1 or 3 channels; found {channels}; fit the small network")
        self.network = fcn_resnet50(weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
        # of ImageNet's colours, which the published weights of its backbone expect
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406))[:, None, None])
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225))[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """Images in [0, 1] to logits of their size."""
        logits: Tensor = self.network((image.expand(-1, 3, -1, -1) - self.mean) / self.std)["out"]
        return logits


def make_network(name: NetworkName, channels: int, classes: int) -> nn.Module:
    """A segmentation network with random weights for photos of so many ``channels``."""
    return SmallNetwork(channels, classes) if name == "small" else FCNResNet50(channels, classes)


class SegmenterHeader(BaseModel):
    """What the file of a segmenter says of it."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    network: NetworkName
    channels: Annotated[int, Field(gt=0, le=1024)]
    """Of photos."""
    names: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(min_length=1, max_length=MOST_CLASSES)]
    colours: Colours
    """Of each class, in [0, 1], one value a channel of the label maps."""
    void: Colours = ()
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """As LabelClasses has it; None for infinite."""
    size: tuple[int, int] | None = None
    """Height and width of the photos that it was fitted on; None where they differ."""
    data: Text = ""
    """The data set and its fingerprint."""
    measured_on: Text = ""
    """The set that it was measured on, such as "val set"."""
    scores: dict[str, float] = {}
    """Those of real photos there, by name (label_classes.SCORES)."""
    steps: Annotated[int, Field(ge=0)] = 0
    seed: int = 0
    begun_with: Text = ""
    """The weights that fitting began with; empty for random ones."""

    @property
    def classes(self) -> LabelClasses:
        """The classes that it tells apart."""
        return LabelClasses(self.names, self.colours, self.void, self.tolerance or math.inf)


class Segmenter:
    """A fitted segmentation network, which nothing changes, so that copies share it."""

    def __init__(self, header: SegmenterHeader, network: nn.Module) -> None:
        self.header, self.classes = header, header.classes
        self._network = network.requires_grad_(False).eval()
        self._recent = list[tuple[Tensor, Tensor]]()
        self.computed_with = {"network": header.network, "weights": f"sha256 {checksum(network.state_dict())[:16]}"}

    def __deepcopy__(self, _: Any) -> Segmenter:
        return self

    @torch.no_grad()
    def __call__(self, photo: Tensor) -> Tensor:
        """The class [N, H, W] of each pixel of photos [N, C, H, W] in [0, 1]; the last two are remembered.

        So a target that stands beside several outputs is segmented once.

        Raises:
            DataError: they have another number of channels.
        """
        if photo.shape[1] != self.header.channels:
            found, expected = photo.shape[1], self.header.channels
            fitted = counted(expected, "channel")
            raise DataError(f"the segmenter was fitted on photos of {fitted}; found {found}; fit one anew")
        for number, (known, _) in enumerate(self._recent):
            if torch.equal(known, photo):
                self._recent.append(self._recent.pop(number))
                return self._recent[-1][1]
        self._recent = [*self._recent[-1:], (photo, self._network(photo).argmax(1))]
        return self._recent[-1][1]


def write_segmenter(file: Path, header: SegmenterHeader, network: nn.Module) -> None:
    """Write a segmenter, whole or not at all.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    described = {
        "format_version": FORMAT_VERSION,
        "sha256": checksum(weights),
        "header": header.model_dump(mode="json"),
    }
    with atomic_write(file) as aside:
        save_file(weights, aside, metadata={KEY: json.dumps(described)})


def read_segmenter(file: Path) -> Segmenter:
    """The segmenter in a file that :func:`write_segmenter` has written.

    Raises:
        DataError: the file is missing, damaged, or not a segmenter.
        ReadError: the system does not let it be read now.
    """
    how = "p2pkit evaluate RECIPE --fit-segmenter FILE makes one"
    try:
        contents, weights = read_tensors(file)
    except DamagedFile as error:
        raise DataError(f"{file}: it cannot be read, it is damaged or no segmenter: {error}; {how}") from error
    except OSError as error:
        here = how.replace("FILE", shlex.quote(str(file)))
        raise DataError(f"{file}: there is no such file of a segmenter; {here}") from error
    if KEY not in contents.metadata:
        raise DataError(f"{file}: a safetensors file, but not a segmenter; {how}")
    try:
        described: dict[str, Any] = json.loads(contents.metadata[KEY])
        if described["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {described['format_version']!r}; upgrade p2pkit to read it")
        header = SegmenterHeader.model_validate_json(json.dumps(described["header"]))
        _refuse_contradictions(header)
        if described["sha256"] != checksum(weights):
            raise ValueError("the checksum of its weights is wrong")
        return Segmenter(header, _with_weights(header, weights))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, problem["loc"]))
        why = f"{at}: {problem['msg']}"
    except P2PKitError as error:
        why = str(error)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else first_line(error)
    raise DataError(f"{file}: the segmenter is damaged: {visible(why)[:300]}. Copy or fit it anew")


def _refuse_contradictions(header: SegmenterHeader) -> None:
    colours = [*header.colours, *header.void]
    if len(header.colours) != len(header.names) or len({len(colour) for colour in colours}) != 1:
        raise ValueError("its classes do not have a name and a colour each, of as many channels")


def _with_weights(header: SegmenterHeader, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network that a header names; ValueError where ``weights`` are not its own."""
    with torch.device("meta"):  # so that it takes no memory which the file does not have
        network = make_network(header.network, header.channels, len(header.names))
    expected = network.state_dict()
    for name, value in expected.items():
        own = weights.get(name)
        if own is None or own.shape != value.shape or own.dtype != value.dtype or not own.isfinite().all():
            raise ValueError(f"{name} is missing, of another shape or type, or not finite")
    network.load_state_dict({name: weights[name] for name in expected}, assign=True)
    return network


def _block(fewer: int, more: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fewer, more, 3, stride, 1, bias=False), nn.BatchNorm2d(more), nn.ReLU())
