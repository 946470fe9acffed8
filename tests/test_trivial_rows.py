"""Trivial translators that stand beside a model: what each gives, and when a model is no better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from p2pkit.evaluation.baselines import ClassMeanColour, MeanTarget, NearestSource, SourceItself, by_row, not_beaten
from tests.conftest import Call, lines, picture, save, train, validation

RED, GREEN = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([-1.0, 1.0, -1.0])


def flat(colour: torch.Tensor, height: int = 8, width: int = 8) -> torch.Tensor:
    return colour[:, None, None].expand(3, height, width).contiguous()


def test_the_mean_target_is_the_mean_of_each_pixel_and_is_resized() -> None:
    mean = MeanTarget()
    targets = [torch.rand(3, 8, 8) * 2 - 1 for _ in range(3)]
    for target in targets:
        mean.add(torch.zeros(1, 8, 8), target)
    given = mean(torch.zeros(1, 1, 8, 8))
    torch.testing.assert_close(given[0], torch.stack(targets).mean(0))
    assert mean(torch.zeros(1, 1, 12, 20)).shape == (1, 3, 12, 20)
    mean.add(torch.zeros(1, 5, 5), torch.ones(3, 5, 5))  # of another size
    torch.testing.assert_close(mean(torch.zeros(1, 1, 8, 8))[0], (torch.stack(targets).sum(0) + 1) / 4)


def test_the_nearest_source_gives_its_target() -> None:
    sources = [torch.full((3, 8, 8), level) for level in (-0.9, 0.0, 0.9)]
    targets = [flat(RED), flat(GREEN), torch.zeros(3, 8, 8)]
    nearest = NearestSource(targets.__getitem__)
    for source, target in zip(sources, targets, strict=True):
        nearest.add(source, target)
    for level, expected in ((-0.7, 0), (0.2, 1), (0.6, 2)):
        assert nearest(torch.full((1, 3, 8, 8), level))[0].equal(targets[expected])
    assert nearest(torch.full((1, 3, 16, 24), -1.0)).shape == (1, 3, 16, 24)


def test_a_gray_source_is_repeated_for_targets_of_colour() -> None:
    source = torch.rand(1, 1, 4, 4)
    assert SourceItself(3)(source).equal(source.repeat(1, 3, 1, 1))


@pytest.mark.parametrize(("noise", "expected"), [(0.0, True), (0.03, True), (0.5, False)])
def test_label_maps_are_known_by_colours_that_are_few_and_flat(noise: float, expected: bool) -> None:
    torch.manual_seed(0)
    by_class = ClassMeanColour()
    for _ in range(4):
        labels = torch.where(torch.rand(1, 16, 16) > 0.5, flat(RED, 16, 16), flat(GREEN, 16, 16))
        by_class.add((labels + noise * torch.randn(3, 16, 16)).clamp(-1, 1), torch.rand(3, 16, 16))
    assert by_class.of_label_maps is expected


def test_a_number_that_is_not_better_than_a_row_names_it() -> None:
    rows = {
        "model": {"psnr": 20.0, "mae": 0.1, "count": 3.0, "ssim": float("nan")},
        "source": {"psnr": 20.0, "mae": 0.2, "count": 9.0, "ssim": 0.1},
        "mean_target": {"psnr": 21.0, "mae": 0.3, "count": 1.0, "ssim": 0.2},
    }
    found = not_beaten(rows, "model", {"psnr": True, "mae": False, "count": None, "ssim": True})
    assert found == {"psnr": ["source", "mean_target"], "ssim": ["source", "mean_target"]}


def test_a_run_measures_trivial_rows_and_says_which_it_does_not_beat(
    recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", "train.max_steps=1")
    assert outcome.code == 0, outcome.err
    last = lines(tmp_path / "run")[-1]
    assert {"source/mae", "mean_target/psnr", "nearest_source/ssim"} <= last.keys()
    assert "class_mean_colour/mae" not in last  # its sources are no label maps
    of = validation(tmp_path / "run")
    assert (of["images"], of["set"]) == (2, "test set, which serves as val set too") and of["size"] == [16, 16]
    rows = by_row({key: value for key, value in last.items() if "/" in key})
    found = not_beaten(rows, "validation", {"mae": False, "psnr": True, "ssim": True})
    assert found  # after one step
    said = " ".join(outcome.out.split())
    for number in ("mae", "psnr", "ssim"):
        expected = f"NOTICE: by {number} the model is no better than {', '.join(found.get(number, []))}"
        assert (expected in said) == (number in found)


def test_the_rows_are_what_they_are_called(pairs: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "transform.load_size=24", "transform.crop_size=24")
    last = lines(run)[-1]

    def halves(split: str) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for file in sorted((pairs / split).iterdir()):
            pixels = np.asarray(Image.open(file)).astype(float) / 255
            found.append((pixels[:, :24], pixels[:, 24:]))
        return found

    mean = np.mean([target for _, target in halves("train")], axis=0)
    differences = {"source": [], "mean_target": [], "nearest_source": []}
    for source, target in halves("test"):
        distances = [np.square(other - source).sum() for other, _ in halves("train")]
        nearest = halves("train")[int(np.argmin(distances))][1]
        for name, output in (("source", source), ("mean_target", mean), ("nearest_source", nearest)):
            differences[name].append(np.abs(output - target).mean())
    for name, each in differences.items():
        assert last[f"{name}/mae"] == pytest.approx(np.mean(each), abs=1e-5), name


@pytest.mark.parametrize("name", ["source", "mean_target", "class_mean_colour", "nearest_source"])
def test_a_single_row_or_none_can_be_chosen(name: str, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=1", f"validation.baseline={name}")
    assert {key.partition("/")[0] for key in lines(run)[-1] if key.endswith("/mae")} == {"validation", name}
    run = train(p2pkit, recipe, tmp_path / "other", "train.max_steps=1", "validation.baseline=none")
    assert {key.partition("/")[0] for key in lines(run)[-1] if key.endswith("/mae")} == {"validation"}


def test_label_maps_get_the_class_mean_colour(tmp_path: Path, p2pkit: Call) -> None:
    for split, count in (("train", 4), ("test", 2)):
        for index in range(count):
            labels = (picture(32, 32, index + 50 * (split == "test")) > 127).astype(np.uint8) * 255
            save(tmp_path / split / "source" / f"{index}.png", labels)
            save(tmp_path / split / "target" / f"{index}.png", labels // 2 + 20)
    recipe = {"data.root": tmp_path, "data.name": "paired_folders", "generator.depth": 3, "generator.width": 4}
    settings = [f"{key}={value!s}" if key != "data.root" else f'{key}="{value}"' for key, value in recipe.items()]
    settings += ["transform.crop_size=16", "train.max_steps=1", "discriminator.name=patchgan_16"]
    file = tmp_path / "labels.toml"
    file.write_text("")
    run = train(p2pkit, file, tmp_path / "run", *settings)
    assert lines(run)[-1]["class_mean_colour/mae"] < 1e-3


def test_sources_of_very_many_colours_are_no_label_maps() -> None:
    torch.manual_seed(0)
    by_class = ClassMeanColour()
    for _ in range(2):
        by_class.add(torch.rand(13, 64, 64) * 2 - 1, torch.rand(3, 64, 64))
    assert by_class.too_many and not by_class.of_label_maps


def test_a_train_set_has_no_nearest_source_but_itself(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", "train.max_steps=1")
    rows = p2pkit("evaluate", run, "--split", "train", "--json").json["rows"]
    assert set(rows) == {"model", "source", "mean_target"}
