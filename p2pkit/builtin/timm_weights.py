"""Weights for timm's networks, from a local file or from the Hugging Face cache. Tensors are read, no code is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from p2pkit.errors import DataError, RecipeError, Unavailable, first_line

TIMEOUT_SECONDS = 5.0


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, or in a state dict that PyTorch has saved.

    Raises:
        DataError: the file is missing, damaged, or holds more than tensors.
    """
    from timm.models import load_state_dict

    if not file.is_file():
        raise DataError(f"{file}: there is no such file of weights")
    try:
        found: dict[str, Any] = load_state_dict(str(file), use_ema=False, weights_only=True)
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
