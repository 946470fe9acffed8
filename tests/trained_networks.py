"""Files of random weights in place of the published ones, by their names, so that metrics find them in a hub cache."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torchvision import models

FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
    "inception": "weights-inception-2015-12-05-6726825d.pth",
}


def write_random_weights(home: Path) -> Path:
    """Write them where torch looks for them when TORCH_HOME is ``home``; gives that folder."""
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("alexnet", "vgg16"):
        with torch.device("meta"):
            features: nn.Module = getattr(models, name)(weights=None).features
        named = {f"features.{key}": value for key, value in features.state_dict().items()}
        torch.save(_drawn(named), folder / FILES[name])
    torch.save(_drawn(_Inception().state_dict()), folder / FILES["inception"])
    return folder


class _Inception(fidelity.FeatureExtractorInceptionV3):  # type: ignore[misc]
    """Inception without a file of weights."""

    def __init__(self) -> None:
        empty = BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        super().__init__("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)

    def load_state_dict(self, *_: Any, **__: Any) -> None:
        """Take none."""


def _drawn(like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that keep the size of what goes through (He et al. 2015), with batch norms that do nothing."""
    rng, drawn = torch.Generator().manual_seed(0), {}
    for name, value in like.items():
        ones = name.endswith((".bn.weight", ".running_var"))
        drawn[name] = torch.full(value.shape, float(ones))
        if value.ndim > 1:
            drawn[name].normal_(std=(2 / value[0].numel()) ** 0.5, generator=rng)
    return drawn
