"""Augmentations of training samples: the built-in components, and what strangers register."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

import p2pkit as library
from p2pkit.data.augmentation import Augmentation, NamedAugmentation, Tensors
from p2pkit.errors import RecipeError
from p2pkit.networks.encoding import SourcePart
from p2pkit.settings import TransformSettings
from p2pkit.training.trainer import Trainer
from tests.conftest import Call, Outcome, distribution, steps_of_checkpoints, train
from tests.test_encodings import labels  # noqa: F401 - a fixture
from tests.test_transform import ramps

GEOMETRY = ("flip", "rotate90", "affine", "elastic")


def augmented(name: str, resampling: Any = "bicubic", seed: int = 0, **parameters: Any) -> Augmentation:
    made = library.create("augmentations", name, **parameters)
    return Augmentation(TransformSettings(), seed, [SourcePart("", 1, resampling)], [NamedAugmentation(name, made)])


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_both_sides_are_moved_alike_whatever_their_channels(name: str, channels: int) -> None:
    transform, image = augmented(name), ramps(40, 40)
    moved = 0
    for index in range(12):
        source, target, _ = transform.train(Tensors(image.repeat(channels, 1, 1), -image), (0, index), "key")
        assert source.shape == (channels, 40, 40)
        assert torch.allclose(source, -target.expand_as(source), atol=1e-5)
        moved += not torch.allclose(source[:1], image, atol=1e-3)
    assert moved >= 3


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("affine", {"rotation": 45, "translate": 0.3, "scale": [0.5, 0.6], "shear": 10}), ("elastic", {"magnitude": 0.1})],
)
def test_no_border_creeps_in(name: str, parameters: dict[str, Any]) -> None:
    image = ramps(40, 56)
    low, high = float(image.min()), float(image.max())
    for index in range(8):
        made, *_ = augmented(name, **parameters).train(Tensors(image, image), (0, index), "key")
        assert low - 0.05 <= float(made.min()) and float(made.max()) <= high + 0.05


def test_an_affine_augmentation_turns_by_its_degrees_and_shifts_by_its_fractions() -> None:
    spot = torch.full((1, 41, 61), -1.0)
    spot[0, 20, 50] = 1.0
    where = []
    for index in range(40):
        turned, *_ = augmented("affine", rotation=90, translate=0, scale=[1, 1], shear=0).train(
            Tensors(spot, spot), (0, index), "key"
        )
        row, column = divmod(int(turned.argmax()), 61)
        where.append((row - 20, column - 30))
    # images of 61 pixels are wider than high, so that a circle of 20 pixels leaves it above and below
    assert all(abs(np.hypot(*place) - 20) < 1.5 for place in where if abs(place[0]) < 18)
    assert {row > 0 for row, _ in where} == {True, False} and all(column > -3 for _, column in where)
    shifted = [
        divmod(int(augmented("affine", rotation=0, translate=0.2, scale=[1, 1], shear=0).train(
            Tensors(spot, spot), (0, index), "key")[0].argmax()), 61)
        for index in range(20)
    ]  # fmt: skip
    assert all(abs(row - 20) <= 9 and abs(column - 50) <= 13 for row, column in shifted) and len(set(shifted)) > 15


def test_label_maps_stay_labels_and_keep_their_colours() -> None:
    classes = torch.randint(0, 5, (1, 12, 12), generator=torch.Generator().manual_seed(0))
    classes = classes.repeat_interleave(4, 1).repeat_interleave(4, 2)
    source = classes / 127.5 - 1
    for name in (*GEOMETRY, "colour_jitter", "noise"):
        made = []
        for index in range(8):
            moved, target, _ = augmented(name, "nearest").train(
                Tensors(source, source.expand(3, -1, -1)), (0, index), "key"
            )
            numbers = (moved + 1) * 127.5
            assert torch.allclose(numbers, numbers.round(), atol=1e-4)
            assert set(numbers.round().unique().tolist()) <= set(range(5))  # type: ignore[no-untyped-call]
            # the target shows what the label map shows, but where the two resamplings differ: at edges
            assert float(((target - moved).abs() < 0.5 / 127.5).float().mean()) > 0.6
            made.append(torch.allclose(moved, source, atol=1e-6))
        assert all(made) if name in ("colour_jitter", "noise") else not all(made)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["colour_jitter", "noise"])
def test_colours_and_noise_are_the_sources_alone(name: str, channels: int) -> None:
    image = ramps(24, 32, channels)
    source, target, _ = augmented(name).train(Tensors(image, image), (0, 0), "key")
    assert torch.allclose(target, image, atol=1e-6) and float((source - image).abs().mean()) > 0.002
    assert source.abs().max() <= 1


class Drawing:
    """Adds what each of the random states gives."""

    def __call__(self, source: Tensor, target: Tensor) -> Sequence[Tensor]:
        return source * 0 + random.random(), target * 0 + (torch.rand(()) + np.random.rand()) / 2


def test_draws_are_counted_and_leave_the_random_states_as_they_were() -> None:
    transform = Augmentation(TransformSettings(), 3, [SourcePart("", 1)], [NamedAugmentation("drawing", Drawing())] * 2)
    image = ramps(4, 4)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    first = transform.train(Tensors(image, image), (1, 2), "key")
    after = random.random(), np.random.rand(), float(torch.rand(()))
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    assert after == (random.random(), np.random.rand(), float(torch.rand(())))
    assert all(map(torch.equal, first[:2], transform.train(Tensors(image, image), (1, 2), "key")[:2]))
    others = [transform.train(Tensors(image, image), draw, "key") for draw in ((1, 3), (2, 2), (1, 2, 1))]
    others.append(Augmentation(TransformSettings(), 4, [SourcePart("", 1)], transform.augmentations).train(
        Tensors(image, image), (1, 2), "key"))  # fmt: skip
    others.append(Augmentation(TransformSettings(), 3, [SourcePart("", 1)], transform.augmentations[:1]).train(
        Tensors(image, image), (1, 2), "key"))  # fmt: skip
    for other in others:
        assert not torch.equal(other[0], first[0]) and not torch.equal(other[1], first[1])


@pytest.fixture
def strange(p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Calls the program on the recipe with a stranger's augmentation: a factory, or the body of a function."""

    def call(command: str, factory: str, parameters: str = "", body: str = "pass", *settings: str) -> Outcome:
        shutil.rmtree(tmp_path / "plugins", ignore_errors=True)
        folder = distribution(tmp_path / "plugins", "p2pkit-strange", "0.1", {"strange": "plugin_strange"})
        (folder / "plugin_strange.py").write_text(f"""
import p2pkit, torch
from torchvision.transforms import v2

def augment(source, target):
    {body}

@p2pkit.hookimpl
def register_augmentations(register):
    register("strange", {factory})
""")
        monkeypatch.delitem(sys.modules, "plugin_strange", raising=False)
        chosen = [f'augmentations=[{{name = "strange"{parameters}}}]', *settings]
        out = ("--out", tmp_path / "run") if command == "run" else ()
        arguments = (word for setting in chosen for word in ("--set", setting))
        return p2pkit("--plugins-dir", folder, command, recipe, *out, *arguments)

    return call


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("ColorJitter", ", brightness = 0.3, hue = 0.1"), ("RandomErasing", ""), ("GaussianBlur", ", kernel_size = 3"),
     ("RandomHorizontalFlip", ", p = 0.5"), ("ElasticTransform", ", sigma = 2.0"), ("RandomInvert", "")],
)  # fmt: skip
def test_a_transform_of_torchvision_is_an_augmentation(
    name: str, parameters: str, strange: Callable[..., Outcome]
) -> None:
    checked = strange("check", f"v2.{name}", parameters)
    assert checked.code == 0, checked.err


WRONG = {
    "return source[:, ::2], target": "a source of 10x20 and a target of 20x20",
    "return source, target[:1]": "a target [1, 20, 20] of torch.float32 where floats [3, H, W] are expected",
    "return source": "gives Image where two images, source and target, are expected",
    "return source.byte(), target": "of torch.uint8 where floats",
    "return source, target / 0": "a target with values that are NaN or infinite",
    "return source[:, :9], target[:, :9]": "images of 9x20 (height x width), smaller than transform.crop_size 16x16",
    "return source @ target[0, :3]": "fails on train/0.png: RuntimeError: ",
    "raise p2pkit.errors.DataError('no')": "fails on train/0.png: DataError: no",
    "return source / (torch.rand(()) < 0.7), target": "NaN or infinite",
}


@pytest.mark.parametrize("body", WRONG)
def test_what_cannot_work_is_refused_by_name_before_a_run(
    body: str, strange: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = strange("run", "lambda: augment", "", body, 'loader.bad_data="skip"')
    assert outcome.code == 2 and "Traceback" not in outcome.err and not (tmp_path / "run").exists()
    assert "augmentation 'strange' of p2pkit-strange 0.1 " in outcome.err and WRONG[body] in outcome.err


def test_check_refuses_it_too(strange: Callable[..., Outcome]) -> None:
    outcome = strange("check", "lambda: augment", "", "return source, target / 0")
    assert outcome.code == 2 and "augmentation 'strange' of p2pkit-strange 0.1 gives a target with" in outcome.err


def test_sizes_that_no_batch_can_hold_together_are_refused_before_a_run(
    strange: Callable[..., Outcome], recipe: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("load_size = 20\ncrop_size = 16", "load_size = 24"))
    body = "top = 8 * int(torch.randint(2, ())); return source[:, top:], target[:, top:]"
    outcome = strange("check", "lambda: augment", "", body)
    assert outcome.code == 2 and "the images of a batch differ in size" in outcome.err
    single = strange("check", "lambda: augment", "", body, "loader.batch_size=1")
    assert single.code == 0, single.err


def test_an_augmentation_that_fails_in_the_middle_of_a_run_ends_it_in_one_sentence(
    strange: Callable[..., Outcome], tmp_path: Path
) -> None:
    body = "v2.calls = getattr(v2, 'calls', 0) + 1; return (source, target) if v2.calls < 12 else None"
    for workers in (0, 1):
        vars(v2).pop("calls", None)
        settings = ('loader.bad_data="skip"', "train.max_steps=20", f"loader.workers={workers}")
        outcome = strange("run", "lambda: augment", "", body, *settings)
        vars(v2).pop("calls", None)
        shutil.rmtree(tmp_path / "run")
        assert outcome.code == 2 and "Traceback" not in outcome.err and "skipped" not in outcome.err
        assert "'strange' of p2pkit-strange 0.1 gives NoneType where two images" in outcome.err


class MeanColour:
    """Shifts the source to a mean of one half: a sum whose last bits would depend on the number of threads."""

    def __call__(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return source - source.mean() + 0.5, target


def test_what_is_computed_does_not_depend_on_threads() -> None:
    transform = Augmentation(TransformSettings(), 0, [SourcePart("", 1)], [NamedAugmentation("mean", MeanColour())])
    found, threads = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        images = [torch.rand(1, 512, 512, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
        found.append(torch.stack([transform.train(Tensors(image, image), (0, 0), "key")[0] for image in images]))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert torch.equal(*found)


ALL = "".join(f'[[augmentations]]\nname = "{name}"\n' for name in (*GEOMETRY, "colour_jitter", "noise"))


@pytest.fixture
def everything(recipe: Path) -> Path:
    """A recipe with all built-in augmentations and several crops of an image."""
    text = recipe.read_text().replace("crop_size = 16", "crop_size = 16\ncrops_per_image = 2\nkeep_aspect = true")
    recipe.write_text(f"{text.replace('max_steps = 4', 'max_steps = 10')}\n{ALL}")
    return recipe


def test_a_run_gives_the_same_with_workers_without_and_resumed(
    everything: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(p2pkit, everything, tmp_path / "whole")
    assert steps_of_checkpoints(whole)[-1] == 10
    by_workers = train(p2pkit, everything, tmp_path / "by_workers", "loader.workers=2")
    networks = "checkpoints/step_00000010/networks.safetensors"
    assert (by_workers / networks).read_bytes() == (whole / networks).read_bytes()
    plain = train(p2pkit, everything, tmp_path / "plain", "augmentations=[]")
    assert (plain / networks).read_bytes() != (whole / networks).read_bytes()

    def interrupted(trainer: Trainer, *arguments: object) -> None:
        write(trainer, *arguments)
        if trainer.state.step == 8:  # in the middle of the second epoch, which ends at 12
            os.kill(os.getpid(), signal.SIGINT)

    write, cut = Trainer._write_what_is_due, tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_write_what_is_due", interrupted)
        assert p2pkit("run", everything, "--out", cut).code == 130
    assert steps_of_checkpoints(cut)[-1] == 8
    assert p2pkit("run", "--resume", cut).code == 0
    assert (cut / networks).read_bytes() == (whole / networks).read_bytes()


def test_label_maps_are_augmented_in_a_run(labels: Path, tmp_path: Path, p2pkit: Call) -> None:  # noqa: F811
    labels.write_text(f"{labels.read_text()}\n{ALL}")
    run = train(p2pkit, labels, tmp_path / "run", "train.max_steps=4")
    assert 'name = "elastic"' in (run / "recipe.toml").read_text()
    assert p2pkit("run", run / "recipe.toml", "--out", tmp_path / "again", "--set", "train.max_steps=1").code == 0


def test_a_recipe_of_wrong_augmentations_lists_all_mistakes(recipe: Path, p2pkit: Call) -> None:
    wrong = 'augmentations=[{name = "afine"}, {name = "flip", p = 1}, {name = "noise", sigma = 2}]'
    outcome = p2pkit("check", recipe, "--set", wrong, "--set", 'transform.crop="no"')
    assert outcome.code == 2
    for text in ("did you mean 'affine'?", "augmentations.1.p: unknown key", "augmentations.2.sigma: found 2",
                 "transform.crop: unknown key"):  # fmt: skip
        assert text in outcome.err
    backwards = p2pkit("check", recipe, "--set", 'augmentations=[{name = "affine", scale = [2, 1]}]')
    assert backwards.code == 2 and "the smaller factor comes first" in backwards.err


def test_a_source_is_a_mask_where_its_encoding_resamples_to_the_nearest_pixel() -> None:
    seen = []

    def look(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((type(source), type(target), float(source.min()), float(source.max())))
        return source, target

    image = torch.tensor([-1.0, 1.0]).expand(1, 2, 2)
    for resampling in ("nearest", "bicubic"):
        parts: Any = [SourcePart("", 1, resampling)]  # type: ignore[arg-type]
        looking = Augmentation(TransformSettings(), 0, parts, [NamedAugmentation("look", look)])
        looking.train(Tensors(image, image), (0, 0), "key")
    assert seen == [(tv_tensors.Mask, tv_tensors.Image, 0.0, 1.0), (tv_tensors.Image, tv_tensors.Image, 0.0, 1.0)]


def test_errors_of_an_augmentation_are_the_recipes() -> None:
    broken = Augmentation(
        TransformSettings(), 0, [SourcePart("", 1)], [NamedAugmentation("it", lambda source, target: [])]
    )
    with pytest.raises(RecipeError, match=r"it gives list where two images, .* are expected, for key"):
        broken.train(Tensors(ramps(4, 4), ramps(4, 4)), (0, 0), "key")
