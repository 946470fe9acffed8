"""``fcn_score`` and ``label_score``: whether outputs show the labels that they were made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

import p2pkit as library
from p2pkit.errors import DataError
from p2pkit.evaluation.validation import Measurement
from p2pkit.networks.label_classes import confusion, scores
from p2pkit.networks.segmenter import KEY, read_segmenter
from tests.conftest import Call, lines, picture, save, train
from tests.segmenters import black_and_white
from tests.test_many_processes import launch

FACADES = """
[run]
name = "labels"
[data]
name = "procedural_facades"
size = 64
pairs = 60
val_pairs = 12
test_pairs = 0
[transform]
load_size = 64
crop_size = 64
flip = false
[loader]
cache = "memory"
[generator]
name = "unet"
depth = 3
width = 4
[discriminator]
name = "patchgan_16"
width = 4
[train]
max_steps = 2
"""
NAMES = ["pixel_acc", "class_acc", "class_iou"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A recipe, a segmenter that was fitted on its data for some seconds, and what it says of itself."""
    folder = tmp_path_factory.mktemp("segmenter")
    (folder / "r.toml").write_text(FACADES)
    header = library.fit_segmenter(folder / "r.toml", folder / "s.safetensors", steps=240, device="cpu")
    return folder / "r.toml", folder / "s.safetensors", header


def numbers(metric: str, parameters: dict[str, Any], output: Callable[[int], Tensor], recipe: Path) -> list[float]:
    """The scores of a series of outputs [3, H, W] in [0, 1] for the val set of a recipe, as validation has them."""
    measurement, samples = Measurement("it", metric, library.create("metrics", metric, **parameters)), val_set(recipe)
    for index, (source, target) in enumerate(samples):
        images = [each[None] * 2 - 1 for each in (output(index), target, source)]
        measurement.update(*measurement.features(*images))
    return list(measurement.compute().values())


def val_set(recipe: Path) -> list[tuple[Tensor, Tensor]]:
    found = library.load_data(recipe).val
    return [tuple(torch.from_numpy(np.asarray(image)).permute(2, 0, 1) / 255 for image in found[i][:2])
            for i in range(len(found))]  # type: ignore[misc]  # fmt: skip


def test_real_photos_score_high_blurred_ones_lower_and_those_of_other_labels_lowest(
    fitted: tuple[Path, Path, Any],
) -> None:
    recipe, file, _ = fitted
    photos = [target for _, target in val_set(recipe)]
    outputs: list[Callable[[int], Tensor]] = [
        lambda index: photos[index],
        lambda index: gaussian_blur(photos[index], [9, 9]),
        lambda index: photos[index - 1],
    ]
    real, blurred, shuffled = (numbers("fcn_score", {"segmenter": file}, each, recipe) for each in outputs)
    assert real[0] > 0.9
    for place in range(3):
        assert real[place] > 1.15 * blurred[place] > 1.3 * shuffled[place], (real, blurred, shuffled)


def test_a_run_is_scored_beside_the_ground_truth(fitted: tuple[Path, Path, Any], tmp_path: Path, p2pkit: Call) -> None:
    recipe, file, header = fitted
    settings = [f'metrics=[{{name="fcn_score", segmenter="{file}"}}, {{name="mae"}}]', "validation.every=1"]
    run = train(p2pkit, recipe, tmp_path / "run", *settings, "validation.monitor=fcn_class_iou")
    measured = [line for line in lines(run) if line["split"] == "validation"]
    assert [line["step"] for line in measured] == [1, 2]
    assert "ground_truth/fcn_pixel_acc" not in measured[0]  # it is the same at each step
    found = p2pkit("evaluate", run, "--json", "--device", "cpu").json
    assert list(found["rows"])[:2] == ["model", "ground_truth"]
    assert found["rows"]["ground_truth"] == {f"fcn_{name}": header.scores[name] for name in NAMES}
    for name, value in found["rows"]["model"].items():
        assert value == measured[-1][f"validation/{name}"]
        assert found["rows"].get("ground_truth", {}).get(name) == measured[-1].get(f"ground_truth/{name}")
    assert not any("ground_truth" in names for names in found["not_beaten"].values())
    assert found["computed_with"]["fcn_score"]["classes"] == "12"
    printed = p2pkit("evaluate", run, "--device", "cpu").out
    assert "ground_truth" in printed and f"{header.scores['pixel_acc']:.4f}" in printed


def test_fitting_is_repeatable_and_its_file_tells_all(tmp_path: Path, p2pkit: Call) -> None:
    recipe, files = tmp_path / "r.toml", [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    recipe.write_text(FACADES)
    found = []
    for file in files:
        outcome = p2pkit("evaluate", recipe, "--fit-segmenter", file, "--steps", "3", "--classes", "cmp_facades",
                         "--device", "cpu", "--json")  # fmt: skip
        assert outcome.code == 0, outcome.err
        found.append(outcome.json)
    assert files[0].read_bytes() == files[1].read_bytes()
    header = read_segmenter(files[0]).header
    assert found[0] == {"file": str(files[0]), **header.model_dump(mode="json")}
    assert (
        header.names[2:4] == ("window", "door")
        and header.size == (64, 64)
        and header.measured_on == "val set, 12 photos"
    )
    assert header.data.startswith("procedural_facades") and header.steps == 3
    outcome = p2pkit("evaluate", recipe, "--fit-segmenter", files[0])
    assert outcome.code == 2 and "it is there already" in outcome.err
    run = train(p2pkit, recipe, tmp_path / "run")
    for other in (run, run / "model.safetensors"):
        file = tmp_path / f"{other.name}.of.safetensors"
        assert p2pkit("evaluate", other, "--fit-segmenter", file, "--steps", "3", "--classes", "cmp_facades").code == 0
        assert file.read_bytes() == files[0].read_bytes()


def test_class_maps_of_numbers_have_the_classes_of_their_encoding(tmp_path: Path, p2pkit: Call) -> None:
    rng, recipe = np.random.default_rng(0), tmp_path / "r.toml"
    for split in ("train", "val"):
        for index in range(4):
            classes = rng.integers(0, 3, (4, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            photo = (np.stack([classes == number for number in range(3)], axis=2) * 200 + 20).astype(np.uint8)
            classes[:2] = 255
            save(tmp_path / "pairs" / split / "source" / f"{index}.png", classes[:, :, None])
            save(tmp_path / "pairs" / split / "target" / f"{index}.png", photo)
    recipe.write_text(
        f'{FACADES.split("[data]")[0]}[data]\nname = "paired_folders"\nroot = "{tmp_path / "pairs"}"\n'
        '[encoding]\nname = "one_hot"\nclasses = 3\nvoid = 255\n'
    )
    header = library.fit_segmenter(recipe, tmp_path / "s.safetensors", steps=40, device="cpu")
    assert header.scores["pixel_acc"] > 0.95
    classes = read_segmenter(tmp_path / "s.safetensors").classes
    values = torch.tensor([0, 1, 2, 3, 254, 255]).reshape(1, 1, 1, -1) / 255
    assert classes.numbers(values).flatten().tolist() == [0, 1, 2, -1, -1, -1]


def test_photos_as_sources_are_refused(tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "r.toml").write_text(FACADES.replace("size = 64\n", 'size = 64\ndirection = "AtoB"\n', 1))
    outcome = p2pkit("evaluate", tmp_path / "r.toml", "--fit-segmenter", tmp_path / "s.safetensors")
    assert outcome.code == 2 and "no label maps" in outcome.err and "swap source and target" in outcome.err
    assert not (tmp_path / "s.safetensors").exists()


@pytest.mark.parametrize("classes", [None, "one.csv"])
def test_one_class_alone_is_refused(
    classes: str | None, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segmenter of one class would find every output perfect."""
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        save(Path("pairs/train/source") / f"{index}.png", np.full((32, 32, 3), 100, np.uint8))
        save(Path("pairs/train/target") / f"{index}.png", picture(32, 32, index))
    Path("one.csv").write_text("wall,100,100,100\nvoid,0,0,0\n")
    Path("r.toml").write_text(f'{FACADES.split("[data]")[0]}[data]\nname = "paired_folders"\nroot = "pairs"\n')
    chosen = ("--classes", classes) if classes else ()
    outcome = p2pkit("evaluate", "r.toml", "--fit-segmenter", "s.safetensors", "--steps", "1", *chosen)
    assert outcome.code == 2 and "one class alone" in outcome.err and not Path("s.safetensors").exists()


def test_classes_of_other_data_are_noticed(tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "r.toml").write_text(FACADES)
    (tmp_path / "gray.csv").write_text("dark,40,40,40\nlight,200,200,200\n")
    for classes, noticed in (("cmp_facades", False), (str(tmp_path / "gray.csv"), True)):
        outcome = p2pkit("evaluate", tmp_path / "r.toml", "--fit-segmenter", tmp_path / f"{noticed}.safetensors",
                         "--steps", "1", "--classes", classes, "--device", "cpu")  # fmt: skip
        assert outcome.code == 0 and ("are they the classes of this data?" in outcome.err) == noticed, outcome.err


def test_a_segmenter_that_cannot_be_written_is_not_fitted(tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "r.toml").write_text(FACADES)
    outcome = p2pkit("evaluate", tmp_path / "r.toml", "--fit-segmenter", tmp_path / "r.toml" / "s.safetensors")
    assert outcome.code == 2 and "cannot write" in outcome.err and "fitting" not in outcome.err


def test_compressed_label_maps_have_the_classes_of_their_flat_colours(tmp_path: Path) -> None:
    rng, recipe = np.random.default_rng(0), tmp_path / "r.toml"
    colours = np.array([[0, 0, 170], [0, 85, 255], [255, 170, 0]], np.uint8)
    for index in range(3):
        labels = colours[rng.integers(0, 3, (4, 4))].repeat(24, 0).repeat(24, 1)
        for side in ("source", "target"):
            (tmp_path / "pairs" / "train" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(tmp_path / "pairs" / "train" / side / f"{index}.jpg", quality=75)
    recipe.write_text(f'[data]\nname = "paired_folders"\nroot = "{tmp_path / "pairs"}"\n')
    header = library.fit_segmenter(recipe, tmp_path / "s.safetensors", steps=1, device="cpu")
    assert len(header.names) == 3
    for colour in header.colours:
        assert min(np.abs(np.array(colour) * 255 - each).max() for each in colours) < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "3"], "--steps goes with --fit-segmenter alone"),
        (["--fit-segmenter", "s.safetensors", "--split", "val"], "--fit-segmenter measures no model"),
        (["--fit-segmenter", "s.safetensors", "--classes", "none.csv"], "there is no such table of classes"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str, tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "r.toml").write_text(FACADES)
    outcome = p2pkit("evaluate", tmp_path / "r.toml", *arguments)
    assert outcome.code == 2 and message in outcome.err


@pytest.mark.parametrize("kind", ["missing", "another", "damaged", "cut"])
def test_files_that_are_no_segmenters_are_refused(kind: str, tmp_path: Path, p2pkit: Call) -> None:
    file = black_and_white(tmp_path / "s.safetensors")
    if kind == "missing":
        file.unlink()
    elif kind == "another":
        save_file(load_file(file), file)
    elif kind == "damaged":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(file.read_bytes()[:-8])
    (tmp_path / "r.toml").write_text(FACADES)
    outcome = p2pkit("check", tmp_path / "r.toml", "--set", f'metrics=[{{name="fcn_score", segmenter="{file}"}}]')
    said = {"missing": "no such file", "another": "not a segmenter", "damaged": "checksum", "cut": "damaged"}[kind]
    assert outcome.code == 2 and said in outcome.err and str(file) in outcome.err.replace("\n", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"channels": 3', '"channels": 4'), ('"small"', '"huge"'), ('["black", "white"]', '["black"]'),
        ("1.0]]", "7.0]]"), ('["black", "white"]', str(["x"] * 300).replace("'", '"')),
        ('"format_version": 1', '"format_version": 2'),
    ],
)  # fmt: skip
def test_headers_that_contradict_are_refused(old: str, new: str, tmp_path: Path) -> None:
    from safetensors import safe_open

    file = black_and_white(tmp_path / "s.safetensors")
    with safe_open(file, "pt") as opened:
        described = opened.metadata()[KEY]
    assert old in described
    save_file(load_file(file), file, metadata={KEY: described.replace(old, new)})
    with pytest.raises(DataError, match="the segmenter is damaged"):
        read_segmenter(file)


def test_sources_that_are_no_label_maps_of_the_classes_are_refused(tmp_path: Path, p2pkit: Call) -> None:
    """Before training begins: of photos the nearest colours would be taken for labels."""
    file, recipe = black_and_white(tmp_path / "s.safetensors", None), tmp_path / "r.toml"
    recipe.write_text(f'{FACADES}[[metrics]]\nname = "fcn_score"\nsegmenter = "{file}"\n')
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run")
    assert outcome.code == 2 and "have no colour of the segmenter's classes" in outcome.err
    assert not (tmp_path / "run").exists()


def test_two_folders_do_not_tell_sources(tmp_path: Path, p2pkit: Call) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder / "1.png", np.zeros((32, 32, 3), np.uint8))
    file = black_and_white(tmp_path / "s.safetensors")
    outcome = p2pkit("evaluate", tmp_path / "a", tmp_path / "b", "--metrics", "fcn_score", "--set",
                     f'metrics.0.segmenter="{file}"')  # fmt: skip
    assert outcome.code == 2 and "which two folders do not tell" in outcome.err


def test_label_maps_against_label_maps(tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "classes.csv").write_text("road,128,64,128\nsky,70,130,180\ncar,0,0,142\nvoid,0,0,0\n")
    road, sky, car, void = np.array([[128, 64, 128], [70, 130, 180], [0, 0, 142], [0, 0, 0]], np.uint8)
    for name, first, second in (
        ("targets", [road, road, sky, void], [road] * 4),
        ("outputs", [road, sky, sky, car], [road, road, car, void]),
    ):
        for number, row in enumerate((first, second)):
            save(tmp_path / name / f"{number}.png", np.stack([row, row]) + np.uint8(2))
    found = p2pkit("evaluate", tmp_path / "outputs", tmp_path / "targets", "--metrics", "label_score", "--set",
                   f'metrics.0.classes="{tmp_path / "classes.csv"}"', "--json").json["rows"]["outputs"]  # fmt: skip
    # of 6 pixels of road 3 are right, 1 is taken for sky, 1 for car, 1 for none; that of sky is right; no car is there
    assert found["label_pixel_acc"] == pytest.approx(4 / 7)
    assert found["label_class_acc"] == pytest.approx((3 / 6 + 1) / 2)
    assert found["label_class_iou"] == pytest.approx((3 / 6 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize(
    "text", ["", "a,1,2\n", "a,1,2,300\n", "a,1,2,3\nb,1,2,3\n", "a,1\nb,1,2,3\n", "void,1\n", "a,x,y,z\n"]
)
def test_tables_of_classes_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DataError, match=r"c\.csv"):
        library.create("metrics", "label_score", classes=tmp_path / "c.csv")


def test_scores_leave_out_what_is_not_there() -> None:
    truth, found = torch.tensor([[0, 0, 0, 1, -1, 1]]), torch.tensor([[0, 0, 1, 1, 1, -1]])
    table = confusion(truth, found, 4)
    assert table.tolist() == [[2, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0] * 5, [0] * 5]
    assert scores(table) == pytest.approx(
        {"pixel_acc": 3 / 5, "class_acc": (2 / 3 + 1 / 2) / 2, "class_iou": (2 / 3 + 1 / 3) / 2}
    )


def test_a_metric_of_single_images_may_ask_for_the_source(tmp_path: Path, p2pkit: Call) -> None:
    class Change:
        higher_is_better = None

        def update(self, output: Tensor, target: Tensor, source: Tensor) -> None:
            self.change = float((output - source).abs().mean())

        def compute(self) -> float:
            return self.change

        def reset(self) -> None:
            self.change = 0.0

    measurement = Measurement("it", "change", Change())
    black, white = -torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert measurement.takes_source and measurement.of_image(white, white, black) == {"change": 1.0}


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(tmp_path: Path, p2pkit: Call) -> None:
    file, recipe = black_and_white(tmp_path / "s.safetensors"), tmp_path / "r.toml"
    recipe.write_text(f'{FACADES}[[metrics]]\nname = "fcn_score"\nsegmenter = "{file}"\n')
    run = train(p2pkit, recipe, tmp_path / "run")
    expected = p2pkit("evaluate", run, "--json", "--device", "cpu").json["rows"]
    found = launch("evaluate", run, "--json")
    out, err = found.communicate(timeout=300)
    assert found.returncode == 0, err
    assert json.loads(out)["rows"] == expected
