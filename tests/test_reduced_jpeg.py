"""JPEGs decoded at reduced size where a recipe has it so: the same images but for little, and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imagecodecs import jpeg8_encode
from numpy.typing import NDArray
from PIL import Image

from p2pkit.build import build_without_weights, load_data
from p2pkit.builtin.datasets.paired_folders import PairedFolders
from p2pkit.data.samples import Samples
from p2pkit.images.reading import image_header, read_image
from p2pkit.recipe.resolve import read_recipe
from p2pkit.training.parts import TrainingParts
from tests.conftest import SMALL, Call, lines, picture, save, train

LOAD = {"load_size": 20, "crop_size": 16}
REDUCED = {**LOAD, "reduced_jpeg": True}
ASPECT = {**REDUCED, "keep_aspect": True}
SAID = "images are decoded at their full size"


def jpeg(file: Path, pixels: Any, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(file, quality=95, **options)
    return file


def averaged(pixels: NDArray[Any], part: int) -> NDArray[Any]:
    height, width, channels = pixels.shape
    return pixels.reshape(height // part, part, width // part, part, channels).mean((1, 3))


OPTIONS: Mapping[str, dict[str, Any]] = {
    "colours at half the size": {"subsampling": 2},
    "colours in full": {"subsampling": 0},
    "progressive": {"progressive": True},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("least", "part"), [((16, 24), 8), ((17, 24), 4), ((64, 90), 2), ((65, 90), 1), ((9, 97), 1)])
def test_a_jpeg_is_read_at_the_smallest_part_that_is_large_enough(
    least: tuple[int, int], part: int, options: dict[str, Any], channels: int, tmp_path: Path
) -> None:
    file = jpeg(tmp_path / "a.jpg", picture(128, 192, 1, channels), **options)
    whole, found = read_image(file), read_image(file, least)
    assert found.shape == (128 // part, 192 // part, channels) and found.dtype == np.uint8
    assert np.abs(averaged(whole, part) - found).max() < (1 if part == 1 else 6)
    assert image_header(file) == (128, 192, channels)


@pytest.mark.parametrize(("height", "width", "part"), [(120, 200, 8), (120, 196, 4), (122, 200, 2), (121, 200, 1)])
def test_sizes_are_divided_without_a_rest(height: int, width: int, part: int, tmp_path: Path) -> None:
    file = jpeg(tmp_path / "a.jpg", picture(height, width, 1))
    assert read_image(file, (10, 10)).shape == (height // part, width // part, 3)


def test_a_turned_jpeg_is_measured_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    file = jpeg(tmp_path / "a.jpg", picture(64, 128, 1), exif=exif)
    assert read_image(file, (64, 16)).shape == (64, 32, 3)
    assert np.abs(averaged(read_image(file), 2) - read_image(file, (64, 16))).max() < 6
    assert read_image(file, (65, 16)).shape == (128, 64, 3)


def test_photos_with_a_preview_and_of_inks_are_reduced_too(tmp_path: Path) -> None:
    photo = Image.fromarray(picture(64, 64, 1))
    photo.save(tmp_path / "a.mpo", save_all=True, append_images=[photo.resize((16, 16))])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    photo.convert("CMYK").save(tmp_path / "b.jpg", quality=95)
    for name in "ab":
        found = read_image(tmp_path / f"{name}.jpg", (8, 8))
        assert found.shape == (8, 8, 3)
        assert np.abs(averaged(read_image(tmp_path / f"{name}.jpg"), 8) - found).max() < 12


def test_other_files_are_read_whole(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", picture(64, 64, 1))
    assert np.array_equal(read_image(file, (8, 8)), read_image(file))


def halves(root: Path, width: int, count: int = 4) -> Path:
    for index in range(count):
        left = picture(192, width, index)
        jpeg(root / "train" / f"{index}.jpg", np.concatenate([left, 255 - left], axis=1))
    jpeg(root / "val" / "9.jpg", np.concatenate([left, 255 - left], axis=1))
    return root


def folders(root: Path, mask: bool = False) -> Path:
    for split in ("train", "val"):
        for index in range(4):
            source = picture(192, 160, index)
            jpeg(root / split / "source" / f"{index}.jpg", source)
            save(root / split / "target" / f"{index}.png", 255 - source)
            if mask:
                save(root / split / "mask" / f"{index}.png", np.full((192, 160), 255, np.uint8))
    return root


def tables(data: Mapping[str, Any], transform: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    networks = {"generator": {"depth": 3, "width": 4}, "discriminator": {"name": "patchgan_16", "width": 4}}
    return {"run": {"name": "reduced"}, "data": data, "transform": transform, **networks, **more}


def built(of: Mapping[str, Any]) -> TrainingParts:
    recipe = read_recipe(of)
    return build_without_weights(recipe, load_data(recipe))


def sizes(of: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Those of source and target of a sample as training has it, and as metrics do."""
    parts, found = built(of), []
    for samples in (parts.train_set, parts.validation.validation_set):
        source, target = samples[0][:2]
        source = source if not isinstance(source, dict) else next(iter(source.values()))
        found += [source.shape[:2], target.shape[:2]]
    assert found[:2] == found[2:]
    return found[:2]


def test_pairs_come_at_reduced_size_by_side(tmp_path: Path) -> None:
    beside = {"name": "side_by_side", "root": str(halves(tmp_path / "beside", 160))}
    assert sizes(tables(beside, LOAD)) == [(192, 160)] * 2
    assert sizes(tables(beside, REDUCED)) == [(48, 40)] * 2
    # columns that are encoded together would be in both halves
    crossed = {"name": "side_by_side", "root": str(halves(tmp_path / "crossed", 152))}
    assert sizes(tables(crossed, REDUCED)) == [(192, 152)] * 2
    apart = {"name": "paired_folders", "root": str(folders(tmp_path / "apart"))}
    assert sizes(tables(apart, REDUCED)) == [(48, 40), (192, 160)]
    photos = {"name": "photos", "root": str(tmp_path / "apart" / "train" / "source"), "split": 0.5}
    assert sizes(tables(photos, REDUCED)) == [(48, 40)] * 2


def test_with_the_aspect_kept_both_images_of_a_pair_stay_of_one_size(tmp_path: Path) -> None:
    beside = {"name": "side_by_side", "root": str(halves(tmp_path / "beside", 160))}
    assert sizes(tables(beside, ASPECT)) == [(48, 40)] * 2
    root, photos = folders(tmp_path / "apart"), {"name": "paired_folders", "root": str(tmp_path / "apart")}
    assert sizes(tables(photos, ASPECT)) == [(192, 160)] * 2
    assert "sources are .jpg, targets .png" in " ".join(load_data(read_recipe(tables(photos, ASPECT))).notices)
    for split in ("train", "val"):
        for index in range(4):
            jpeg(root / split / "photo" / f"{index}.jpg", picture(192, 160, index))
    both = {**photos, "target": "photo"}
    assert sizes(tables(both, ASPECT)) == [(48, 40)] * 2
    # a PNG called JPEG, as people's folders have them, is found out when it is read
    Image.fromarray(picture(192, 160, 0)).save(root / "train" / "photo" / "0.jpg", format="PNG")
    samples = built(tables(both, ASPECT)).train_set
    assert [[image.shape[:2] for image in samples[index][:2]] for index in (0, 1)] == [[(192, 160)] * 2, [(48, 40)] * 2]


@pytest.mark.parametrize("colours", ["444", "420", "411"])
@pytest.mark.parametrize(("width", "part"), [(96, 4), (128, 4), (80, 1), (88, 1)])
def test_halves_are_not_mixed(width: int, part: int, colours: str, tmp_path: Path) -> None:
    red, blue = np.full((64, width, 3), (255, 0, 0), np.uint8), np.full((64, width, 3), (0, 0, 255), np.uint8)
    encoded = jpeg8_encode(np.concatenate([red, blue], axis=1), 95, subsampling=colours)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.jpg").write_bytes(encoded)
    transform = {"load_size": 8, "crop_size": 8, "reduced_jpeg": True}
    recipe = read_recipe(tables({"name": "side_by_side", "root": str(tmp_path)}, transform))
    loaded = load_data(recipe)
    source, target = build_without_weights(recipe, loaded).train_set[0][:2]
    assert source.shape == (64 // part, width // part, 3)
    if part == 1:  # where a JPEG may have mixed them already
        assert np.array_equal(source, loaded.train[0].source) and np.array_equal(target, loaded.train[0].target)
    else:
        assert np.abs(source - (255.0, 0, 0)).max() < 4 and np.abs(target - (0, 0, 255.0)).max() < 4


def test_unpaired_images_come_at_reduced_size(tmp_path: Path) -> None:
    for index in range(4):
        jpeg(tmp_path / "trainA" / f"{index}.jpg", picture(192, 160, index))
        jpeg(tmp_path / "trainB" / f"{index}.jpg", picture(128, 128, index))
    data = {"name": "unpaired_folders", "root": str(tmp_path)}
    samples = built(tables(data, REDUCED, losses=[{"name": "gan"}])).train_set
    assert samples[0].source.shape == (48, 40, 3) and samples.targets is not None
    assert samples.targets[0].target.shape == (64, 64, 3)
    whole = {"loader": {"cache": "memory"}, "source": {"nodata": 0, "fill": 0}, "target": {"nodata": 0, "fill": 0}}
    samples = built(tables(data, REDUCED, losses=[{"name": "gan"}], **whole)).train_set
    assert samples[0].source.shape == (192, 160, 3) and samples.targets is not None
    # and what a cache keeps it gives again as it is
    assert samples[0].source is samples[0].source and samples.targets[0].target is samples.targets[0].target


@pytest.mark.parametrize(
    "more",
    [
        {"encoding": {"name": "one_hot", "classes": 256}, "source": {"channels": "gray"}},
        {"source": {"nodata": 0, "fill": 0}},
        {"source": {"resampling": "nearest"}},
    ],
)
def test_numbers_and_gaps_are_read_whole(more: dict[str, Any], tmp_path: Path) -> None:
    data = {"name": "side_by_side", "root": str(halves(tmp_path, 160))}
    assert sizes(tables(data, REDUCED, **more)) == [(192, 160)] * 2


def test_what_has_masks_is_read_whole(tmp_path: Path) -> None:
    data = {"name": "paired_folders", "root": str(folders(tmp_path, mask=True)), "mask": "mask"}
    assert sizes(tables(data, REDUCED)) == [(192, 160)] * 2


def test_several_sources_are_read_whole(tmp_path: Path) -> None:
    root = folders(tmp_path)
    for split in ("train", "val"):
        for index in range(4):
            save(root / split / "height" / f"{index}.png", picture(192, 160, index, 1))
            jpeg(root / split / "photo" / f"{index}.jpg", picture(192, 160, index))
    data = {"name": "paired_folders", "root": str(root), "source": ["source", "height"], "target": "photo"}
    assert sizes(tables(data, REDUCED)) == [(192, 160), (48, 40)]


def test_larger_targets_keep_their_relation(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for index in range(4):
            target = picture(640, 640, index)
            jpeg(tmp_path / split / "source" / f"{index}.jpg", target[::2, ::2])
            jpeg(tmp_path / split / "target" / f"{index}.jpg", target)
    data = {"name": "paired_folders", "root": str(tmp_path)}
    of = tables(data, REDUCED, generator={"name": "resnet", "blocks": 1, "width": 4})
    assert sizes(of) == [(40, 40), (80, 80)]
    parts = built(of)
    tensors, _ = parts.validation.tensors(parts.validation.validation_set, 0)
    assert tensors.source.shape[1:] == (16, 16) and tensors.target.shape[1:] == (32, 32)


def test_a_run_sees_nearly_the_same_images_and_is_measured_as_it_was(p2pkit: Call, tmp_path: Path) -> None:
    root = halves(tmp_path / "pairs", 160)
    recipe = tmp_path / "small.toml"
    recipe.write_text(SMALL.format(root=root))
    runs = {}
    for name in ("true", "false"):
        runs[name] = train(p2pkit, recipe, tmp_path / name, f"transform.reduced_jpeg={name}", "metrics=[{name='mae'}]")
    measured = {name: lines(run)[-1]["validation/mae"] for name, run in runs.items()}
    assert measured["true"] != measured["false"] and measured["true"] == pytest.approx(measured["false"], rel=0.05)
    for name, run in runs.items():
        found = p2pkit("evaluate", run, "--split", "val", "--json")
        assert found.code == 0, found.err
        assert found.json["rows"]["model"]["mae"] == measured[name]
    whole = p2pkit("evaluate", runs["true"], "--split", "val", "--at", "native", "--json")
    assert whole.code == 0 and whole.json["size"] == [192, 160], whole.err
    of = [tensors(tables({"name": "side_by_side", "root": str(root)}, each)) for each in (LOAD, REDUCED)]
    difference = 127.5 * (of[0] - of[1]).abs()
    assert 0 < difference.mean() < 1 and difference.max() < 12


def tensors(of: Mapping[str, Any]) -> torch.Tensor:
    measured = built(of).validation
    return torch.cat(measured.tensors(measured.validation_set, 0)[0][:2])


def test_on_the_train_set_no_trivial_translator_finds_the_image_itself(p2pkit: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(SMALL.format(root=halves(tmp_path / "pairs", 160)))
    rows = []
    for name in ("true", "false"):
        run = train(p2pkit, recipe, tmp_path / name, f"transform.reduced_jpeg={name}", "metrics=[{name='mae'}]")
        rows.append(p2pkit("evaluate", run, "--split", "train", "--json").json["rows"].keys())
    assert rows[0] == rows[1] and "nearest_source" not in rows[0]


def test_whole_images_are_not_kept_beside_reduced_ones(tmp_path: Path) -> None:
    data = {"name": "side_by_side", "root": str(halves(tmp_path, 160))}
    of = tables(data, REDUCED, loader={"cache": "memory"}, source={"percentiles": [1, 99]})
    recipe = read_recipe(of)
    loaded = load_data(recipe)
    before = loaded.train[0]
    reduced = build_without_weights(recipe, loaded).train_set
    # what is kept is given again as it is
    assert loaded.train[0].source is not before.source and reduced[0].source is reduced[0].source


def test_pairs_that_differ_in_size_are_not_made_alike(tmp_path: Path) -> None:
    for index in range(3):
        jpeg(tmp_path / "source" / f"{index}.jpg", picture(256, 256, index))
        side = 128 if index == 2 else 256
        jpeg(tmp_path / "target" / f"{index}.jpg", picture(side, side, index))
    samples = built(tables({"name": "paired_folders", "root": str(tmp_path)}, ASPECT)).train_set
    assert [image.shape[:2] for image in samples[0][:2]] == [(64, 64)] * 2
    assert [image.shape[:2] for image in samples[2][:2]] == [(256, 256), (128, 128)]


def test_targets_with_masks_are_read_whole_whoever_asks(tmp_path: Path) -> None:
    root = folders(tmp_path, mask=True)
    pairs = PairedFolders("train", root, target="source", source="target", mask="mask")
    assert pairs.reduced({"source": (1, 1), "target": (1, 1)})[0].target.shape == (192, 160, 3)


@pytest.mark.parametrize("cache", ["memory", "disk", "device"])
def test_caches_keep_the_reduced_images_apart(cache: str, tmp_path: Path) -> None:
    data = {"name": "side_by_side", "root": str(halves(tmp_path, 160))}
    kept = {"loader": {"cache": cache, "workers": 0}}
    for _ in range(2):  # the second finds what the first has kept
        assert sizes(tables(data, REDUCED, **kept)) == [(48, 40)] * 2
        assert sizes(tables(data, LOAD, **kept)) == [(192, 160)] * 2
        larger = REDUCED | {"load_size": 40}
        assert sizes(tables(data, larger, **kept)) == [(96, 80)] * 2


def test_samples_on_a_disk_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"name": "side_by_side", "root": str(halves(tmp_path, 160))}
    of = tables(data, REDUCED, loader={"cache": "disk", "workers": 0})
    before = tensors(of)
    measured = built(of).validation
    monkeypatch.setattr(Samples, "_as_sample", lambda *_: pytest.fail("it has been decoded again"))
    assert torch.equal(torch.cat(measured.tensors(measured.validation_set, 0)[0][:2]), before)


def test_it_is_refused_where_it_means_nothing_and_said_where_it_does_nothing(
    p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    reduced = ("--set", "transform.reduced_jpeg=true")
    (tmp_path / "alone.toml").write_text(recipe.read_text().replace("load_size = 20", ""))
    alone = p2pkit("check", tmp_path / "alone.toml", *reduced)
    assert alone.code == 2 and "load_size beside reduced_jpeg" in alone.err
    files = p2pkit("check", recipe, *reduced)
    assert files.code == 0 and SAID not in files.out
    of = recipe.read_text().replace("[data]", "[data]\nname = 'gray_from_targets'\n\n[data.of]")
    recipe.write_text(of)
    made = p2pkit("check", recipe, *reduced)
    assert made.code == 0 and SAID in made.out, made.err
