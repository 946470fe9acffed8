"""Weights of trained networks, from a file, from the caches of torch and Hugging Face, or downloaded into these.

Tensors are read, no code is run.
"""

from __future__ import annotations

import hashlib
import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pkit.errors import DataError, RecipeError, Unavailable, first_line

TIMEOUT_SECONDS = 5.0
WRAPPED = re.compile(r"^(_orig_mod\.)?(module\.)?(_orig_mod\.)?")
"""What DistributedDataParallel and torch.compile, either around the other, put before the names of weights."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that metrics look through and nothing changes, so that copies of a metric share it."""

    network: Callable[[Tensor], Any]
    computed_with: Mapping[str, str]
    """The network's name, and a hash of its weights, which are the same whatever kind of file they came from."""

    @classmethod
    def of(cls, name: str, network: nn.Module) -> TrainedNetwork:
        """``network`` with its weights, which is called ``name``, frozen and in evaluation mode."""
        digest = hashlib.sha256()
        for key, value in sorted(network.state_dict().items()):
            if value.is_floating_point():
                digest.update(key.encode() + value.float().contiguous().numpy().tobytes())
        return cls(
            network.requires_grad_(False).eval(), {"network": name, "weights": f"sha256 {digest.hexdigest()[:16]}"}
        )

    def __deepcopy__(self, _: Any) -> TrainedNetwork:
        return self

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Any:
        """What the network makes of images [N, 3, H, W]; one channel is repeated to three.

        Raises:
            RecipeError: the images have another number of channels.
        """
        if image.shape[1] not in (1, 3):
            raise RecipeError(
                f"{self.computed_with['network']} takes images of 3 channels, or of 1, which is repeated; found "
                f"{image.shape[1]}; leave the metric out"
            )
        return self.network(image.expand(-1, 3, -1, -1))


def published_file(network: str, url: str, download: bool, *others: str | Path) -> Path:
    """The file of published weights that ``url`` ends with: in torch's hub cache, or downloaded into it.

    ``others`` are names in that cache, or paths, of files that serve as well; none is downloaded.

    Raises:
        Unavailable: there is none, and it cannot be downloaded, or shall not be.
    """
    folder = Path(torch.hub.get_dir(), "checkpoints")
    file = folder / url.rpartition("/")[2]
    for known in (file, *(folder / other for other in others)):
        if known.is_file():
            return known
    reason = "they may not be downloaded (download = false)"
    if str(folder).startswith("~"):
        reason = "there is no home folder to download them to"
    elif download:
        from p2pkit.downloads.download import download as fetch

        try:
            # torchvision and torch-fidelity end such names with the first digits of the checksum
            fetch(url, file, sha256=file.stem.rpartition("-")[2])
            return file
        except Unavailable as error:
            reason = first_line(error)
    raise Unavailable(
        f"the weights of {network} are not here, and {reason}. Put the file {file.name} into {folder} (TORCH_HOME says "
        'where that is), or give the path of a file that holds them: weights = "PATH"'
    )


def refuse_others(network: nn.Module, weights: Mapping[str, Tensor], file: Path, name: str) -> None:
    """Refuse ``weights`` from ``file`` that are not those of ``network``, which is called ``name``.

    Raises:
        DataError: one is missing, or has another shape; more than these do no harm.
    """
    expected = network.state_dict()
    wrong = [key for key in expected if key not in weights or weights[key].shape != expected[key].shape]
    if wrong:
        raise DataError(
            f"{file}: it does not hold the weights of {name}: {len(wrong)} of {len(expected)} are missing or have "
            f"another shape, {wrong[0]} the first"
        )


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, or in a state dict that PyTorch has saved, also within a training checkpoint.

    Raises:
        DataError: the file is missing, damaged, or holds more than tensors.
    """
    if not file.is_file():
        raise DataError(f"{file}: there is no such file of weights; check the path")
    try:
        found: dict[str, Any]
        if file.suffix == ".safetensors":
            found = dict(load_file(file))
        else:
            with torch.serialization.safe_globals([Namespace]):  # many keep the arguments of their script beside
                found = torch.load(file, map_location="cpu", weights_only=True)
            found = found.get("state_dict", found.get("model", found))
        found = {WRAPPED.sub("", name): value for name, value in found.items()}
    except Exception as error:  # what libraries make of a damaged file has no class in common
        raise DataError(f"{file}: no weights can be read from it, damaged or unsafe: {first_line(error)}") from error
    weights = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not weights:
        raise DataError(f"{file}: it holds no weights; expected the tensors of a network by their names")
    return weights


def pretrained_file(backbone: str) -> Path:
    """The file of a network's published weights: that in the Hugging Face cache, or downloaded into it.

    Raises:
        RecipeError: nobody has published weights for it.
        Unavailable: they are not in the cache, and cannot be downloaded now.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(backbone)
    repository, name = config and config.hf_hub_id, (config and config.hf_hub_filename) or "model.safetensors"
    if not repository:
        raise RecipeError(f"pretrained: timm knows no published weights of {backbone!r}; set pretrained = false")
    try:
        return Path(hf_hub_download(repository, name, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        # asked once before, since a download goes on trying for half a minute where there is no network
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=TIMEOUT_SECONDS)
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # those of the HTTP library are among them
        raise Unavailable(
            f"the weights of {backbone!r} are not in the Hugging Face cache and cannot be downloaded now "
            f"({first_line(error) or type(error).__name__}). Download the file {name} of the repository {repository} "
            'where there is a network, and give its path: weights = "PATH"'
        ) from error
