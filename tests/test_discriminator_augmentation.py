"""Discriminator augmentation: what the discriminator sees, the probability that follows it, and runs with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import p2pkit as library
from p2pkit.networks.encoding import Encoded
from p2pkit.settings import DiscriminatorAugmentationSettings
from p2pkit.training.discriminator_augmentation import DRAWS, AugmentedDiscriminator, augment
from p2pkit.training.step import StepContext, frozen, unwrap_model
from tests.conftest import Call, lines, train

POLICIES = ("colour", "translation", "cutout")
ON = 'discriminator_augmentation.policy=["colour", "translation", "cutout"]'
ADAPTIVE = (ON, "discriminator_augmentation.adaptive_target=0.05", "discriminator_augmentation.adaptive_images=20")
ALWAYS = torch.tensor(1.0)


def drawn(count: int) -> Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(3))


def images(count: int = 4, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 24, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1


class Sees(nn.Module):
    """A discriminator that keeps what it is given, and whose logits are the image's means."""

    has_features = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, source: Tensor, image: Tensor, features: bool = False) -> library.DiscriminatorOutput:
        self.seen.append((source, image))
        return library.DiscriminatorOutput([self.weight * image.mean(dim=(1, 2, 3), keepdim=True)], [image])


def augmented(network: nn.Module | None = None, **settings: Any) -> AugmentedDiscriminator:
    chosen = DiscriminatorAugmentationSettings(**{"policy": list(POLICIES), **settings})
    return AugmentedDiscriminator(network or Sees(), chosen)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_reach_the_generator_through_each_transform_and_through_its_gradient(policy: str) -> None:
    source, image = images(), images().requires_grad_()
    _, seen = augment(source, image, drawn(4), [policy], ALWAYS)
    assert not torch.equal(seen, image)
    (gradient,) = torch.autograd.grad(seen.square().sum(), image, create_graph=True)
    assert all(one.any() for one in gradient)
    (second,) = torch.autograd.grad(gradient.square().sum(), image)
    assert second.isfinite().all() and second.any()
    numbers = images(2)[:, :, :6, :5].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: augment(one, one, drawn(2).double(), [policy], ALWAYS)[1], numbers)


def test_source_and_image_are_shifted_alike_and_each_pair_by_its_own() -> None:
    pixels = images(32)
    source, image = augment(pixels, pixels, drawn(32), ["translation"], ALWAYS)
    assert torch.equal(source, image)
    shifts = set()
    for before, after in zip(pixels, image, strict=True):
        found = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-2, 3)
            if torch.equal(_shifted_by_hand(before, down, right), after)
        ]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) > 12 and {down for down, _ in shifts} == set(range(-3, 4))


def _shifted_by_hand(image: Tensor, down: int, right: int) -> Tensor:
    _, height, width = image.shape
    padded = nn.functional.pad(image, (8, 8, 8, 8))
    return padded[:, 8 - down : 8 - down + height, 8 - right : 8 - right + width]


def test_a_cutout_is_one_stretch_of_half_the_sides_at_most_in_source_and_image() -> None:
    source, image = augment(images(32, 2), images(32), drawn(32), ["cutout"], ALWAYS)
    empty = image.eq(0).all(dim=1)
    assert torch.equal(empty, source.eq(0).all(dim=1))
    assert torch.equal(torch.where(empty[:, None], images(32), image), images(32))
    rows, columns = empty.any(dim=2).sum(dim=1), empty.any(dim=1).sum(dim=1)
    assert torch.equal(rows * columns, empty.sum(dim=(1, 2)))
    assert int(rows.max()) == 12 and int(columns.max()) == 8 and int(rows.min()) >= 6 and len(rows.unique()) > 3


def test_colours_change_the_image_alone_and_not_where_things_are() -> None:
    gray = images(8, 1).expand(-1, 3, -1, -1)
    source, image = augment(gray, gray, drawn(8), ["colour"], ALWAYS)
    assert torch.equal(source, gray)
    for before, after in zip(gray, image, strict=True):
        contrast = (after.max() - after.min()) / (before.max() - before.min())
        expected = (before - before.mean()) * contrast + after.mean()
        assert torch.allclose(after, expected, atol=1e-5) and 0.5 <= float(contrast) <= 1.5
        assert abs(float(after.mean() - before.mean())) <= 0.5


def test_each_transform_is_applied_with_the_probability() -> None:
    source, draws = images(1).expand(4000, -1, -1, -1), torch.rand(4000, DRAWS)
    for policy in POLICIES:
        for probability in (0.0, 0.3):
            _, seen = augment(source, source, draws, [policy], torch.tensor(probability))
            share = float((seen != source).flatten(1).any(dim=1).float().mean())
            assert share == pytest.approx(probability, abs=0.05), policy


def test_a_step_augments_all_its_images_alike_and_the_next_one_otherwise() -> None:
    network = augmented()
    one, other = (StepContext(images(), images(), images(), network) for _ in range(2))
    assert torch.equal(one.pred_real.features[0], one.pred_fake.features[0])
    assert torch.equal(one.discriminate(images()).features[0], one.pred_real.features[0])
    assert not torch.equal(one.pred_real.features[0], other.pred_real.features[0])
    without_draws = [network(images(), images()).features[0] for _ in range(2)]
    assert not torch.equal(*without_draws)


def test_in_evaluation_the_discriminator_sees_what_it_is_given() -> None:
    network = augmented().eval()
    assert torch.equal(network(images(), images()).features[0], images())
    assert unwrap_model(Encoded(nn.Identity(), network)) is network.network


def test_classes_stay_classes_behind_an_encoding() -> None:
    encoding = library.create("encodings", "one_hot", classes=4, source_channels=1, source_range=(0.0, 3.0))
    classes = torch.randint(0, 4, (16, 1, 24, 16)) / 1.5 - 1
    network = Sees()
    Encoded(encoding, augmented(network))(classes, images(16))
    source, image = network.seen[0]
    assert set(source.unique().tolist()) == {0.0, 1.0} and set(source.sum(dim=1).unique().tolist()) == {0.0, 1.0}
    assert image.shape == (16, 3, 24, 16)


def stepped(network: AugmentedDiscriminator, value: float, steps: int = 12) -> None:
    for _ in range(steps):
        _ = StepContext(images(2), torch.full((2, 3, 24, 16), value), images(2), network).pred_real


def test_the_probability_rises_while_real_images_are_recognised_and_falls_otherwise() -> None:
    network = augmented(policy=["cutout"], adaptive_target=0.6, adaptive_images=40, probability=0.4)
    assert network.probability == 0
    stepped(network, 1.0)
    assert float(network.probability) == pytest.approx(0.4)  # as high as it may become
    stepped(network, -1.0, 5)
    assert 0.1 < float(network.probability) < 0.3
    before, sign = float(network.probability), float(network.real_sign)
    with frozen(network):  # as where the generator's losses look at the target
        stepped(network, 1.0)
    assert (float(network.probability), float(network.real_sign)) == (before, sign)
    stepped(network, -1.0)
    assert network.probability == 0
    fixed = augmented(policy=["cutout"], probability=0.4)
    stepped(fixed, 1.0)
    assert float(fixed.probability) == pytest.approx(0.4)


def test_real_is_what_lies_above_the_loss_s_decision_boundary() -> None:
    chosen = DiscriminatorAugmentationSettings(policy=["colour"], adaptive_target=0.6, adaptive_images=40)
    network = AugmentedDiscriminator(Sees(), chosen, decision_boundary=0.5)
    stepped(network, 0.4)
    assert network.probability == 0 and network.real_sign < 0


def network_file(run: Path, step: int = 4) -> dict[str, Tensor]:
    return load_file(run / f"checkpoints/step_{step:08}/networks.safetensors")


def test_without_a_policy_nothing_is_changed(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    plain = train(p2pkit, recipe, tmp_path / "plain")
    off = train(p2pkit, recipe, tmp_path / "off", "discriminator_augmentation.policy=[]", *ADAPTIVE[1:])
    on = train(p2pkit, recipe, tmp_path / "on", ON)
    assert network_file(off).keys() == network_file(plain).keys() == load_names(recipe, p2pkit, tmp_path)
    assert all(torch.equal(value, network_file(off)[name]) for name, value in network_file(plain).items())
    assert lines(plain) == lines(off)
    assert lines(plain)[0].keys() == lines(on)[0].keys() and lines(plain) != lines(on)


def load_names(recipe: Path, p2pkit: Call, tmp_path: Path) -> set[str]:
    """What checkpoints call the weights of both networks as they are without anything around them."""
    names = set()
    for kind, name, settings in (("generator", "unet", {"depth": 3}), ("discriminator", "patchgan_16", {})):
        made = library.create(f"{kind}s", name, source_channels=3, target_channels=3, width=4, **settings)
        names |= {f"{kind}|{key}" for key in made.state_dict()}
    return names


def test_an_adaptive_run_resumes_exactly_and_does_not_depend_on_workers(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    settings = (*ADAPTIVE, "optimizer.lr=0.01")
    alone = train(p2pkit, recipe, tmp_path / "alone", *settings, "train.max_steps=6")
    workers = train(p2pkit, recipe, tmp_path / "workers", *settings, "train.max_steps=6", "loader.workers=2")
    halves = train(p2pkit, recipe, tmp_path / "halves", *settings, "train.max_steps=3")
    assert p2pkit("run", "--resume", halves, "--set", "train.max_steps=6").code == 0
    for other in (workers, halves):
        for name in ("networks", "optimizers"):
            file = f"checkpoints/step_00000006/{name}.safetensors"
            assert (other / file).read_bytes() == (alone / file).read_bytes(), (other, name)
        assert [line for line in lines(other) if line["split"] == "train"] == lines(alone)[:6]
    probabilities = [line["discriminator/augment_probability"] for line in lines(alone)[:6]]
    assert probabilities[0] > 0 and len(set(probabilities)) > 2
    last = network_file(alone, 6)
    assert float(last["discriminator|probability"]) == probabilities[-1]
    assert float(last["discriminator|real_sign"]) == lines(alone)[5]["discriminator/real_sign"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("policy=['color']", 'found \'color\', expected one of: "colour", "translation", "cutout"'),
        ("probability=1.5", "expected a float above 0 to 1"),
        ("adaptive_target=1.0", "above 0 to below 1"),
        ("target=0.6", "unknown key"),
    ],
)
def test_check_refuses_what_no_augmentation_is(setting: str, expected: str, p2pkit: Call, recipe: Path) -> None:
    outcome = p2pkit("check", recipe, "--set", f"discriminator_augmentation.{setting}")
    assert outcome.code == 2 and "discriminator_augmentation." in outcome.err and expected in outcome.err


def test_check_refuses_an_adaptive_probability_where_no_logit_separates_real_from_fake(
    p2pkit: Call, recipe: Path
) -> None:
    recipe.write_text(recipe.read_text() + '\n[[losses]]\nname = "wgan_gp"\n')
    words = [word for setting in (*ADAPTIVE, "discriminator.norm=instance") for word in ("--set", setting)]
    outcome = p2pkit("check", recipe, *words)
    assert outcome.code == 2 and "adaptive_target: loss 'wgan_gp' of p2pkit" in outcome.err
    assert p2pkit("check", recipe, *words[:2], *words[-2:]).code == 0


@pytest.mark.parametrize("penalty", ["wgan_gp", "r1"])
def test_gradient_penalties_and_features_go_through_it(
    penalty: str, p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    for name in (penalty, "feature_matching"):
        recipe.write_text(recipe.read_text() + f'\n[[losses]]\nname = "{name}"\n')
    run = train(p2pkit, recipe, tmp_path / "run", ON, "discriminator.norm=instance", "train.ema_decay=0.5")
    assert {f"discriminator/{penalty}", "generator/feature_matching"} <= lines(run)[0].keys()


ON_TWO_PROCESSES = """
import torch
from p2pkit.settings import DiscriminatorAugmentationSettings
from p2pkit.training.discriminator_augmentation import AugmentedDiscriminator

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
settings = DiscriminatorAugmentationSettings(policy=["colour"], adaptive_target=0.2, adaptive_images=100)
network = AugmentedDiscriminator(torch.nn.Identity(), settings)
for _ in range(8):
    network.adapt([torch.tensor([1.0, 1.0 if rank else -1.0]).view(2, 1, 1, 1)])
print(f"p {float(network.probability):.4f} r {float(network.real_sign):.4f}", flush=True)
torch.distributed.barrier()  # one that leaves before the other aborts it
torch.distributed.destroy_process_group()
"""


def test_processes_share_one_probability(tmp_path: Path) -> None:
    script = tmp_path / "adapt.py"
    script.write_text(ON_TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    ended = subprocess.run(
        launch, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
    )
    # three quarters of both processes' logits are above 0, so the mean sign nears 1/2, from 0; four images a step
    assert ended.stdout.count("p 0.2800 r 0.4499") == ended.stdout.count("p 0.") == 2
