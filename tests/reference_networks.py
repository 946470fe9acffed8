"""Networks and step of the PyTorch reference implementation, written from their description, with its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "none": lambda channels: nn.Identity(),
}


class Block(nn.Module):
    """A level of the U-Net around the levels inside of it; what it is given is concatenated before what it makes."""

    def __init__(self, outside: int, inside: int, norm: str, within: nn.Module | None, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        down: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outside, inside, 4, 2, 1, bias=bias)]
        if within is not None:
            down += [NORMS[norm](inside), within]
        up = nn.ConvTranspose2d(inside if within is None else 2 * inside, outside, 4, 2, 1, bias=bias)
        noise = [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*down, nn.ReLU(), up, NORMS[norm](outside), *noise)

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([F.leaky_relu(values, 0.2), self.model(values)], 1)


class Outermost(nn.Module):
    def __init__(self, source: int, target: int, width: int, norm: str, within: nn.Module) -> None:
        super().__init__()
        down = nn.Conv2d(source, width, 4, 2, 1, bias=norm == "instance")
        self.model = nn.Sequential(down, within, nn.ReLU(), nn.ConvTranspose2d(2 * width, target, 4, 2, 1), nn.Tanh())

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = self.model(values)
        return output


class UNet(nn.Module):
    def __init__(self, downs: int, width: int, norm: str, dropout: bool, source: int = 3, target: int = 3) -> None:
        super().__init__()
        within = Block(8 * width, 8 * width, norm, None, False)
        for _ in range(downs - 5):
            within = Block(8 * width, 8 * width, norm, within, dropout)
        for wide in (4, 2, 1):
            within = Block(wide * width, 2 * wide * width, norm, within, False)
        self.model = Outermost(source, target, width, norm, within)

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = self.model(values)
        return output


class Residual(nn.Module):
    def __init__(self, width: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), NORMS[norm](width), nn.ReLU()]
        second = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), NORMS[norm](width)]
        self.conv_block = nn.Sequential(*first, *([nn.Dropout(0.5)] if dropout else []), *second)

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = values + self.conv_block(values)
        return output


class ResNet(nn.Module):
    def __init__(self, blocks: int, width: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7, bias=bias), NORMS[norm](width), nn.ReLU()]
        for wide in (width, 2 * width):
            layers += [nn.Conv2d(wide, 2 * wide, 3, 2, 1, bias=bias), NORMS[norm](2 * wide), nn.ReLU()]
        layers += [Residual(4 * width, norm, dropout) for _ in range(blocks)]
        for wide in (4 * width, 2 * width):
            up = nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, NORMS[norm](wide // 2), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = self.model(values)
        return output


class Patches(nn.Module):
    """The discriminators "basic" (three layers) and "n_layers"."""

    def __init__(self, layers: int, width: int, norm: str, channels: int = 6) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        made = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            convolution = nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1, bias=norm == "instance")
            made += [convolution, NORMS[norm](widths[level]), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*made, nn.Conv2d(widths[layers], 1, 4, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = self.model(values)
        return output


class Pixels(nn.Module):
    """The discriminator "pixel"."""

    def __init__(self, width: int, norm: str, channels: int = 6) -> None:
        super().__init__()
        bias = norm == "instance"
        first = [nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 1, bias=bias)]
        second = [NORMS[norm](2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 1, bias=bias)]
        self.net = nn.Sequential(*first, *second)

    def forward(self, values: Tensor) -> Tensor:
        output: Tensor = self.net(values)
        return output


def generator(name: str, norm: str, dropout: bool, width: int = 4) -> nn.Module:
    """The generator that the reference calls ``name``, with random weights and statistics."""
    kind, _, size = name.partition("_")
    if kind == "unet":
        network: nn.Module = UNet({"128": 7, "256": 8}[size], width, norm, dropout)
    else:
        network = ResNet(int(size.removesuffix("blocks")), width, norm, dropout)
    return shaken(network)


def discriminator(name: str, norm: str, width: int = 4) -> nn.Module:
    """The discriminator "basic", "n_layers" of five layers, or "pixel"."""
    network = Pixels(width, norm) if name == "pixel" else Patches({"basic": 3, "n_layers": 5}[name], width, norm)
    return shaken(network)


def shaken(network: nn.Module) -> nn.Module:
    """``network`` with weights that leave something of an image, and with biases and statistics that are none of 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.1)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.1)
                nn.init.normal_(module.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
    return network


def save(network: nn.Module, file: Path, rename: Callable[[str], str] = str, **options: Any) -> Path:
    """Write a checkpoint as the reference does, or with other names."""
    torch.save({rename(name): tensor for name, tensor in network.state_dict().items()}, file, **options)
    return file


def one_step(
    generator: nn.Module, discriminator: nn.Module, source: Tensor, target: Tensor, rate: float = 2e-4
) -> dict[str, float]:
    """A step of the reference on a batch: the discriminator's update by half of its losses, then the generator's."""
    for_generator, for_discriminator = (
        torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999)) for network in (generator, discriminator)
    )
    fake = generator(source)
    seen_fake = discriminator(torch.cat([source, fake.detach()], 1))
    seen_real = discriminator(torch.cat([source, target], 1))
    lower, raised = torch.zeros_like(seen_fake), torch.ones_like(seen_real)
    loss = F.binary_cross_entropy_with_logits
    of_discriminator = 0.5 * (loss(seen_fake, lower) + loss(seen_real, raised))
    of_discriminator.backward()
    for_discriminator.step()
    fooled = loss(discriminator(torch.cat([source, fake], 1)), raised)
    distance = 100 * F.l1_loss(fake, target)
    generator.zero_grad()
    (fooled + distance).backward()
    for_generator.step()
    return {
        "discriminator/gan": of_discriminator.item(), "generator/gan": fooled.item(), "generator/l1": distance.item(),
    }  # fmt: skip
