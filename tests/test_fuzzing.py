"""Whatever is in a file or an option: a result, or an error with a message; never a traceback."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from p2pkit.errors import DataError, ModelFileError, P2PKitError, RecipeError, RunDirError
from p2pkit.images.reading import image_header, read_image
from p2pkit.images.writing import write_image
from p2pkit.inference.model_file import read_header, write_model
from p2pkit.inference.model_header import ModelHeader
from p2pkit.inference.translator import load_model
from p2pkit.recipe.resolve import COMPONENT_LISTS, COMPONENTS, SETTINGS, read_recipe
from p2pkit.run_dir import RunDir
from p2pkit.training.checkpoint import Trained, read_checkpoint, write_checkpoint
from p2pkit.training.metrics_log import drop_lines
from p2pkit.training.state import RunState
from tests.conftest import picture
from tests.model_files import change, described, sealed
from tests.test_formats import write_dicom

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
long = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))

NAMES = ["unet", "patchgan_70", "l1", "pix2pix", "procedural_facades", "adam", "batch", "1 epoch", "5m"]
PLAIN = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.text(max_size=8), st.sampled_from(NAMES)
)
VALUES = st.recursive(
    PLAIN,
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(st.text("ab_", min_size=1), each, max_size=3)),
    max_leaves=6,
)
OWN_KEYS = [key for model in SETTINGS.values() for key in model.model_fields]
KEYS = st.sampled_from(["name", "weight", "depth", "width", "norm", "size", "pairs", *OWN_KEYS])
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)
RECIPES = st.dictionaries(
    st.sampled_from([*SETTINGS, *COMPONENTS, *COMPONENT_LISTS, "extends", "other"]),
    st.one_of(TABLES, VALUES, st.lists(TABLES, max_size=3)), max_size=5,
)  # fmt: skip


def result_or_error(read: Any, expected: type[P2PKitError]) -> None:
    """``read`` ends in a result or in an error of the family that users can mend, with a message."""
    with suppress(expected):
        read()


def in_file(content: str | bytes, name: str) -> Path:
    file = Path(tempfile.mkdtemp()) / name
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return file


def recipes_of_any_shape(tables: dict[str, Any]) -> None:
    with suppress(ValueError):  # what TOML cannot write is no recipe
        file = in_file(tomlkit.dumps(tables), "a.toml")
        result_or_error(lambda: read_recipe(file).toml(with_origins=True), RecipeError)


def overrides_of_any_shape(texts: list[str]) -> None:
    file = in_file('[data]\nname = "procedural_facades"\n', "a.toml")
    result_or_error(lambda: read_recipe(file, texts), RecipeError)


PARTS = st.sampled_from(
    ["losses", "generator", "train", "optimizer", "0", "1", "name", "epochs", "lr", "=", ".", '"', "[", "5"]
)
OVERRIDES = st.lists(st.one_of(st.text(max_size=20), st.lists(PARTS, max_size=7).map("".join)), max_size=3)

test_recipes_of_any_shape = quick(given(RECIPES)(recipes_of_any_shape))
test_many_recipes_of_any_shape = pytest.mark.slow(long(given(RECIPES)(recipes_of_any_shape)))
test_overrides_of_any_shape = quick(given(OVERRIDES)(overrides_of_any_shape))
test_many_overrides_of_any_shape = pytest.mark.slow(long(given(OVERRIDES)(overrides_of_any_shape)))


@quick
@given(st.binary(max_size=200))
def test_recipes_of_any_bytes(content: bytes) -> None:
    result_or_error(lambda: read_recipe(in_file(content, "a.toml")), RecipeError)


@quick
@given(st.lists(st.one_of(st.binary(max_size=30), st.just(b'{"step": 1, "split": "train"}'), st.just(b"[1]"))))
def test_metrics_of_any_bytes(lines: list[bytes]) -> None:
    file = in_file(b"\n".join(lines), "metrics.jsonl")
    drop_lines(file, 5, {"validation"})
    assert all(json.loads(line)["step"] <= 5 for line in file.read_text().splitlines())


MUTATIONS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
CUT = st.floats(0, 1)


def mutated(content: bytes, mutations: list[tuple[float, int]], cut: float, head: int | None = None) -> bytes:
    changed = bytearray(content)
    for place, value in mutations:
        changed[int(place * (head or len(changed)))] = value
    return bytes(changed[: max(1, int(len(changed) * cut))]) if cut < 0.5 else bytes(changed)


IMAGES: dict[str, bytes] = {}
for ending, name in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF"), ("bmp", "BMP")):
    buffer = io.BytesIO()
    Image.fromarray(picture(16, 24, 0)).save(buffer, name)
    IMAGES[ending] = buffer.getvalue()
SCRATCH = Path(tempfile.mkdtemp())
DEEP = np.random.default_rng(0).random((16, 24, 5), dtype=np.float32)
for ending in ("deep.tif", "npy", "nii"):
    write_image(SCRATCH / f"a.{ending}", DEEP)
np.savez(SCRATCH / "a.npz", DEEP)
np.savez_compressed(SCRATCH / "a.packed.npz", DEEP)
write_dicom(SCRATCH / "a.dcm", np.zeros((16, 24), np.uint16))
IMAGES |= {file.name.removeprefix("a."): file.read_bytes() for file in SCRATCH.iterdir()}
ENDINGS = st.sampled_from(sorted(IMAGES))


def images_of_any_bytes(ending: str, mutations: list[tuple[float, int]], cut: float, head: int | None) -> None:
    content = IMAGES[ending]
    file = in_file(mutated(content, mutations, cut, head and min(head, len(content))), f"a.{ending}")
    result_or_error(lambda: image_header(file), DataError)
    with suppress(DataError):
        pixels = read_image(file)
        assert isinstance(pixels, np.ndarray) and image_header(file) == pixels.shape


HEAD = st.sampled_from([None, 400])
test_images_of_any_bytes = quick(given(ENDINGS, MUTATIONS, CUT, HEAD)(images_of_any_bytes))
test_many_images_of_any_bytes = pytest.mark.slow(long(given(ENDINGS, MUTATIONS, CUT, HEAD)(images_of_any_bytes)))


@pytest.fixture(scope="module")
def model() -> bytes:
    file = Path(tempfile.mkdtemp()) / "model.safetensors"
    header = ModelHeader(
        generator="unet", parameters={"depth": 2, "width": 1}, distribution="p2pkit", distribution_version="0",
        source_channels=1, target_channels=1, source_dtype="uint8", target_dtype="uint8",
    )  # fmt: skip
    write_model(file, {"weight": torch.zeros(2)}, header)
    return file.read_bytes()


@quick
@given(mutations=MUTATIONS, cut=CUT)
def test_model_files_of_any_bytes(model: bytes, mutations: list[tuple[float, int]], cut: float) -> None:
    head = 8 + int.from_bytes(model[:8], "little")
    file = in_file(mutated(model, mutations, cut, head), "model.safetensors")
    result_or_error(lambda: read_header(file), ModelFileError)
    result_or_error(lambda: load_model(file, device="cpu"), ModelFileError)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from([-1, 0, 2**31, 2**63, 1e308, "uint8", "\x1b[2J", "../x", "sample", [1, 0], [0, 255]]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=6,
)  # fmt: skip
"""What JSON can say, and what a field that is taken at its word would do harm with."""


def altered(record: dict[str, Any], place: float, value: Any) -> dict[str, Any]:
    """``record`` with another ``value`` at one of its places, whichever table it lies in."""
    places = [(record, key) for key in record]
    places += [(each, key) for each in record.values() if isinstance(each, dict) for key in each]
    table, key = places[int(place * len(places))]
    table[key] = value
    return record


PLACES = st.floats(0, 1, exclude_max=True)


def model_files_of_any_values(model: bytes, place: float, value: Any) -> None:
    file = in_file(model, "model.safetensors")
    change(file, header=altered(described(file)["header"], place, value))
    result_or_error(lambda: read_header(file), ModelFileError)
    result_or_error(lambda: load_model(file, device="cpu"), ModelFileError)


test_model_files_of_any_values = quick(given(place=PLACES, value=ANY_JSON)(model_files_of_any_values))
test_many_model_files_of_any_values = pytest.mark.slow(
    long(given(place=PLACES, value=ANY_JSON)(model_files_of_any_values))
)


@quick
@given(PLACES, ANY_JSON)
def test_records_of_checkpoints_of_any_values(place: float, value: Any) -> None:
    network = nn.Linear(2, 2)
    trained = Trained({"generator": network}, {"generator": torch.optim.Adam(network.parameters())})
    folder = Path(tempfile.mkdtemp())
    said = {
        "seconds": 1.0,
        "metrics": {"psnr": 2.0},
        "window": {"sums": {"l1": 1.0}, "counts": {"l1": 2}},
        "best": [1, 2.0],
    }
    write_checkpoint(folder, 1, trained, {**said, "finished": False, "stopped": "", "expected": None}, keep=1)
    file = folder / "step_00000001" / "progress.json"
    record = json.loads(file.read_text())
    del record["sha256_of_the_rest"]
    file.write_text(sealed(altered(record, place, value)))
    result_or_error(lambda: RunState.from_json(read_checkpoint(folder, trained)[0]), RunDirError)


@quick
@given(PLACES, ANY_JSON)
def test_environments_of_any_values(place: float, value: Any) -> None:
    said = {"data": {"fingerprint": "a", "ranges": {"source": [0, 1]}}, "starts": [{}], "init_from": None}
    folder = RunDir(Path(tempfile.mkdtemp()))
    (folder.path / "environment.json").write_text(json.dumps(altered(said, place, value)))
    (folder.path / "validation.json").write_text(json.dumps(value))
    for read in (folder.ranges, folder.environment, folder.measured):
        result_or_error(read, RunDirError)


@quick
@given(st.sampled_from(["progress.json", "networks.safetensors", "optimizers.safetensors"]), MUTATIONS, CUT)
def test_checkpoints_of_any_bytes(name: str, mutations: list[tuple[float, int]], cut: float) -> None:
    network = nn.Linear(2, 2)
    trained = Trained({"generator": network}, {"generator": torch.optim.Adam(network.parameters())})
    folder = Path(tempfile.mkdtemp())
    write_checkpoint(folder, 1, trained, {"seconds": 0.0, "metrics": {}}, keep=1)
    file = folder / "step_00000001" / name
    file.write_bytes(mutated(file.read_bytes(), mutations, cut))
    result_or_error(lambda: read_checkpoint(folder, trained), RunDirError)
