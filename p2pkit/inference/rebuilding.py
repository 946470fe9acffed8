"""The generator of a model file, made again by whoever offers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from p2pkit.components.catalogue import create
from p2pkit.components.discovery import installing
from p2pkit.components.host import manager
from p2pkit.components.own_plugins import PROVIDED, how_to_install
from p2pkit.errors import ModelFileError, UnknownComponent, shortened
from p2pkit.inference.frugal import frugally
from p2pkit.inference.model_file import refuse_not_finite
from p2pkit.inference.model_header import EncodingHeader, ModelHeader, SourceHeader
from p2pkit.networks.encoding import Encoded, SourceEncoding, SourcePart


def rebuild(file: Path, header: ModelHeader, weights: dict[str, Tensor]) -> nn.Module:
    """The generator that ``header`` describes, behind its encodings, with its weights; messages begin with ``file``.

    Raises:
        ModelFileError: it needs what is not installed, cannot be made with these weights, or is much larger than they
            are; or a weight is NaN or infinite.
    """
    channels = {"source_channels": header.source_channels, "target_channels": header.target_channels}
    parts = []
    for one in header.each_source:
        encoding = None if one.encoding is None else _encoding(file, one, one.encoding)
        parts.append(SourcePart(one.name, one.channels, encoding=encoding))
    encode: Any = None
    if any(part.encoding is not None for part in parts):
        encode = SourceEncoding(parts) if len(parts) > 1 else parts[0].encoding
        channels["source_channels"] = encode.channels
    with _explaining(file, f"generator {header.generator!r}", header.distribution, header.distribution_version):
        parameters = {**header.parameters, **channels, "scale": header.scale, "weights_follow": True}
        with frugally(weights):
            generator = cast(nn.Module, create("generators", header.generator, **parameters))
        if encode is not None:
            generator = Encoded(encode, generator)
        # what it is made with may be infinite, as masks of attention are
        refuse_not_finite(file, weights, generator.state_dict())
        generator.load_state_dict(weights)
    return generator.requires_grad_(False)


def _encoding(file: Path, source: SourceHeader, encoding: EncodingHeader) -> Any:
    with _explaining(file, f"encoding {encoding.name!r}", encoding.distribution, encoding.distribution_version):
        supplied = {"source_channels": source.channels, "source_range": source.values}
        return create("encodings", encoding.name, **encoding.parameters, **supplied)


@contextmanager
def _explaining(file: Path, what: str, distribution: str, version: str) -> Iterator[None]:
    """Name the model file, and the distribution, of what cannot be rebuilt."""
    try:
        yield
    except UnknownComponent as error:
        broken = (plugin.problem for plugin in manager().broken() if plugin.distribution == distribution)
        plugin = distribution.removeprefix("p2pkit-")
        remedy = how_to_install(plugin) if plugin in PROVIDED else installing(distribution)
        why = next((f"left out here: {problem}" for problem in broken), f"not here; {remedy}")
        raise ModelFileError(f"{file}: its {what} comes from {distribution} {version}, which is {why}") from error
    except ModelFileError:
        raise
    except Exception as error:  # a stranger's factory may raise whatever there is, and so does torch
        raise ModelFileError(
            f"{file}: its {what} cannot be rebuilt; it was made by {distribution} {version}: {shortened(error)}"
        ) from error
