"""Losses of p2pkit's steps beside those of the reference implementation, from the same weights on the same images.

    python benchmarks/losses_beside_reference.py --peer PATH

PATH is a clone of junyanz/pytorch-CycleGAN-and-pix2pix. U-Net 256 without dropout, PatchGAN 70, batch norm, float32,
GAN + 100 L1, batch size 1, on a CPU; p2pkit with plain convolutions, and with its faster ones. By SGD losses agree as
far as float32 rounds. Adam's first steps go by little more than the signs of gradients, and so magnify rounding: the
reference is compared with itself, too, on images whose values are 1 + 3e-7 times theirs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from against_reference import draw
from side_ours import tables
from side_peer import options
from torch import Tensor, nn

from p2pkit.benchmarks.timed import timed_trainer
from p2pkit.contracts import Batch
from p2pkit.recipe.resolve import read_recipe
from p2pkit.reference.architecture import reference_names

RATE, ROUNDING = 2e-4, 3e-7
OPTIMIZERS = {
    "sgd": {"name": "momentum", "lr": RATE, "momentum": 0.0},
    "adam": {"name": "adam", "lr": RATE, "betas": [0.5, 0.999]},
}
NAMES = ("generator/gan", "generator/l1", "discriminator/gan")
Losses = list[tuple[float, ...]]
Weights = Mapping[str, Mapping[str, Tensor]]


def images(steps: int, factor: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Smooth sources [1, 3, 256, 256] in [-1, 1], and targets that are other colours of these, and noise."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        coarse, fine = (torch.rand(1, 3, side, side, generator=generator) * 2 - 1 for side in (16, 64))
        source = nn.functional.interpolate(coarse, size=256, mode="bicubic").clamp(-1, 1)
        yield source * factor, 0.6 * source.flip(1) + 0.3 * nn.functional.interpolate(fine, size=256)


def reference(peer: str, pairs: Path, optimizer: str, steps: int, factor: float = 1.0) -> tuple[Losses, Weights]:
    """The losses of the reference's steps, and the weights that its networks began with."""
    torch.manual_seed(0)
    words = f"--model pix2pix --direction AtoB --num_threads 0 --batch_size 1 --no_dropout --lr {RATE}"
    found = options(peer, "cpu", True, f"{words} --dataroot {pairs}")
    from models import create_model  # type: ignore[import-not-found]

    model, losses = create_model(found), Losses()
    model.setup(found)
    networks = {"generator": model.netG, "discriminator": model.netD}
    weights = {
        name: {key: value.clone() for key, value in each.state_dict().items()} for name, each in networks.items()
    }
    if optimizer == "sgd":
        model.optimizer_G, model.optimizer_D = (torch.optim.SGD(each.parameters(), RATE) for each in networks.values())
    for source, target in images(steps, factor):
        model.set_input({"A": source, "B": target, "A_paths": [""], "B_paths": [""]})
        model.optimize_parameters()
        losses.append(tuple(float(each.detach()) for each in (model.loss_G_GAN, model.loss_G_L1, model.loss_D)))
    return losses, weights


def ours(pairs: Path, optimizer: str, steps: int, weights: Weights, plain: bool) -> Losses:
    """The losses of p2pkit's steps from these ``weights``, by ``plain`` convolutions or its own."""
    recipe, losses = tables(str(pairs), 1, 0, 286), Losses()
    recipe["generator"] = {**recipe["generator"], "dropout_blocks": []}
    recipe["optimizer"] = OPTIMIZERS[optimizer]
    with timed_trainer(read_recipe(recipe), "cpu") as trainer:
        for name, given in weights.items():
            network: Any = trainer.trained.networks[name]
            names = reference_names(network)
            network.load_state_dict({key: given[names[key]] for key in network.state_dict()})
            for module in network.modules() if plain else ():
                for kind in (nn.Conv2d, nn.ConvTranspose2d):
                    if isinstance(module, kind):
                        module.__class__ = kind
        for step, (source, target) in enumerate(images(steps)):
            trainer.update.set_position(trainer.limits.position(step, 0.0))
            terms = trainer.steps.make(Batch(source, target, ["drawn"]))
            losses.append(tuple(float(terms[name]) for name in NAMES))
    return losses


def differences(found: Losses, expected: Losses) -> Sequence[float]:
    """The largest relative difference of each loss over all steps."""
    each = [[abs(a - b) / abs(b) for a, b in zip(*both, strict=True)] for both in zip(found, expected, strict=True)]
    return [max(column) for column in zip(*each, strict=True)]


def main() -> None:
    """Compare, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a clone of the reference implementation")
    parser.add_argument("--steps", type=int, default=20, help="[20]")
    given = parser.parse_args()
    peer, steps = str(given.peer.absolute()), given.steps
    lines = [["", *NAMES], ["---"] * (1 + len(NAMES))]
    with tempfile.TemporaryDirectory(prefix="p2pkit-losses-") as made:
        os.environ["XDG_CACHE_HOME"] = os.environ["TMPDIR"] = made
        pairs, _ = draw(Path(made))
        for optimizer in OPTIMIZERS:
            expected, weights = reference(peer, pairs, optimizer, steps)
            beside_itself, _ = reference(peer, pairs, optimizer, steps, 1 + ROUNDING)
            compared = {
                "plain convolutions": ours(pairs, optimizer, steps, weights, True),
                "faster convolutions": ours(pairs, optimizer, steps, weights, False),
                f"the reference, images times 1 + {ROUNDING}": beside_itself,
            }
            for name, losses in compared.items():
                lines.append([f"{optimizer}, {name}", *(f"{each:.1e}" for each in differences(losses, expected))])
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    print(f"\nThe largest relative difference from the reference's losses over {steps} steps.")


if __name__ == "__main__":
    main()
