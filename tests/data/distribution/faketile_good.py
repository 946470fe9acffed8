"""A plugin as it should be: one component of several kinds, and a command."""

from collections.abc import Callable
from typing import Annotated, Any

import click
from pydantic import Field

import p2pkit


@p2pkit.hookimpl
def register_generators(register: Any) -> None:
    import torch
    from torch import nn

    class Tint(nn.Module):
        """Shifts every colour.

        Args:
            strength: by how much.
        """

        def __init__(
            self, source_channels: int, target_channels: int, strength: Annotated[float, Field(ge=0, le=1)] = 0.5
        ) -> None:
            super().__init__()
            self.colour = nn.Parameter(torch.full((target_channels, 1, 1), strength))
            self.mix = nn.Conv2d(source_channels, target_channels, 1)

        def forward(self, source: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.mix(source) + self.colour)

    def without_annotation(source_channels: int, target_channels: int, depth) -> Tint:
        """A factory that says too little."""
        return Tint(source_channels, target_channels)

    def odd_default(source_channels: int, target_channels: int, norm: type[nn.Module] = nn.BatchNorm2d) -> Tint:
        """A factory whose default no recipe could write."""
        return Tint(source_channels, target_channels)

    register("tint", Tint)
    register("odd_default", odd_default)
    register("nothing", None)

    def called_name(source_channels: int, target_channels: int, name: str = "x") -> Tint:
        """A factory with a parameter that recipes use for something else."""
        return Tint(source_channels, target_channels)

    def odd_bound(source_channels: int, target_channels: int, mode: Annotated[str, Field(multiple_of=2)] = "x") -> Tint:
        """A factory whose bound does not go with its type."""
        return Tint(source_channels, target_channels)

    def callback(source_channels: int, target_channels: int, act: Callable[[int], int]) -> Tint:
        """A factory that wants what no recipe can say."""
        return Tint(source_channels, target_channels)

    def of_kind(source_channels: int, target_channels: int, kind: str = "hard") -> Tint:
        """A factory with a parameter called kind."""
        return Tint(source_channels, target_channels)

    for factory in (called_name, odd_bound, callback, of_kind):
        register(factory.__name__, factory)
    register("without_annotation", without_annotation)
    register("contested", Tint)


@p2pkit.hookimpl
def register_discriminators(register: Any) -> None:
    import torch
    from torch import nn

    from p2pkit.contracts import DiscriminatorOutput

    class Judge(nn.Module):
        """Answers with a DiscriminatorOutput of two scales."""

        def __init__(self, source_channels: int, target_channels: int) -> None:
            super().__init__()
            self.logits = nn.Conv2d(target_channels, 1, 3)

        def forward(self, source: torch.Tensor, image: torch.Tensor) -> DiscriminatorOutput:
            return DiscriminatorOutput([self.logits(image), self.logits(image[:, :, ::2, ::2])], [])

    register("judge", Judge)


@p2pkit.hookimpl
def register_losses(register: Any) -> None:
    class Brightness:
        """The difference in mean brightness."""

        def generator_loss(self, step: Any) -> Any:
            return (step.fake.mean() - step.target.mean()).abs()

    register("brightness", Brightness)


@p2pkit.hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command("tile", short_help="Said by a plugin.")
    def tile() -> None:
        click.echo("tiled")


@p2pkit.hookimpl
def register_data_commands(data: click.Group) -> None:
    @data.command("lay", short_help="Said of data by a plugin.")
    def lay() -> None:
        click.echo("laid")
