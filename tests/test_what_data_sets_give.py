"""What a PyTorch user's data set gives: tuples, dicts, tensors, PIL images, draws; and what cannot be trained on."""

from __future__ import annotations

import json
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Subset, TensorDataset

import p2pkit as library
from p2pkit.contracts import DatasetWithHeaders, Sample
from p2pkit.data.samples import Samples
from p2pkit.errors import DataError, RecipeError
from p2pkit.utils.seeds import seeded
from tests.conftest import Call, distribution, lines

CODE = """
import random

import numpy as np
import p2pkit
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset


def pixels(index):
    return np.random.default_rng(index).integers(0, 256, (20, 20, 3), dtype=np.uint8)


class Mine(Dataset):
    {head}

    def __len__(self):
        return 6

    def __getitem__(self, index):
        {body}

{more}

@p2pkit.hookimpl
def register_datasets(register):
    register("mine", Mine)
"""
MINE = ("--set", 'data={name = "mine"}')
OF = "dataset 'mine' of p2pkit-mine 0.4"
TUPLES = "return pixels(index), pixels(index + 9)"

Plugin = Callable[..., tuple[object, ...]]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """Writes a distribution with one data set; what the command line needs to use it."""

    def written(body: str, head: str = "", more: str = "") -> tuple[object, ...]:
        plugins = tmp_path / "plugins"
        if not plugins.exists():
            distribution(plugins, "p2pkit-mine", "0.4", {"mine": "plugin_mine"})
        (plugins / "plugin_mine.py").write_text(CODE.format(head=head or "pass", body=body, more=more))
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, "plugin_mine", raising=False)
        return "--plugins-dir", plugins

    return written


def pixels(index: int) -> Any:
    return np.random.default_rng(index).integers(0, 256, (20, 20, 3), dtype=np.uint8)


FORMS = {
    "a tuple of arrays": TUPLES,
    "a dict": "return {'target': pixels(index + 9), 'source': pixels(index)}",
    "a dict with a key": "return {'source': pixels(index), 'target': pixels(index + 9), 'key': index}",
    "a Sample of PIL images": "return p2pkit.Sample(*map(Image.fromarray, (pixels(index), pixels(index + 9))))",
    "uint8 tensors": "return tuple(torch.from_numpy(pixels(i)).permute(2, 0, 1) for i in (index, index + 9))",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_trains_to_the_same_weights(
    form: str, plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    models = []
    for body in ("return p2pkit.Sample(pixels(index), pixels(index + 9), 'a')", FORMS[form]):
        out = tmp_path / str(len(models))
        outcome = p2pkit(*plugin(body), "run", recipe, "--out", out, *MINE, "--set", "train.max_steps=2")
        assert outcome.code == 0, outcome.err
        assert "no validation: the data has neither a val nor a test set" in outcome.err
        models.append(load_file(out / "model.safetensors"))
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


IMAGES: dict[str, tuple[Any, Any]] = {
    "gray array": (np.arange(12, dtype=np.uint16).reshape(3, 4), np.arange(12, dtype=np.uint16).reshape(3, 4, 1)),
    "ToTensor's": (torch.rand(3, 4, 5), None),
    "gray tensor": (torch.rand(4, 5), None),
    "bfloat16": (torch.ones(1, 4, 5, dtype=torch.bfloat16), np.ones((4, 5, 1), np.float32)),
    "bool": (np.eye(4, dtype=bool), np.eye(4, dtype=bool)[:, :, None]),
    "bool tensor": (torch.eye(4) > 0, np.eye(4, dtype=bool)[:, :, None]),
    "palette": (Image.fromarray(pixels(0)).convert("P", palette=Image.Palette.ADAPTIVE, colors=4), None),
    "32-bit": (Image.fromarray(np.arange(12, dtype=np.int32).reshape(3, 4) * 70000), None),
    "float": (Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)), None),
    "16-bit": (Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000), None),
}


@pytest.mark.parametrize("name", IMAGES)
def test_values_stay_as_they_are(name: str) -> None:
    given, expected = IMAGES[name]
    if expected is None and isinstance(given, torch.Tensor):
        expected = given.numpy()[:, :, None] if given.ndim == 2 else given.numpy().transpose(1, 2, 0)
    elif expected is None:
        expected = np.asarray(given.convert("RGB") if given.mode == "P" else given)
        expected = expected if expected.ndim == 3 else expected[:, :, None]
    sample = Samples([(given, given)], "mine", "train")[0]
    for image in sample[:2]:
        assert image.dtype == expected.dtype and np.array_equal(image, expected)
    assert sample.key == "train_00000"


def test_bool_is_nothing_and_all(plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    arguments = plugin("return pixels(index)[:, :, 0] > 99, pixels(index)[:, :, :1] > 99")
    outcome = p2pkit(*arguments, "run", recipe, "--out", tmp_path / "run", *MINE)
    assert outcome.code == 0, outcome.err
    translated = library.load_model(tmp_path / "run")(Image.new("1", (16, 16), 1))
    assert translated.mode == "L"


def test_a_sample_as_it_should_be_is_handed_on_as_it_is() -> None:
    sample = Sample(pixels(0), pixels(1), "mine")
    assert Samples([sample], "mine", "train")[0] is sample


REFUSED = {
    "other names": (
        "return {'image': pixels(index), 'mask': pixels(index)}",
        f"{OF}: [0] of its train set gives a dict with the names image, mask, expected a Sample, a tuple (source, "
        "target), or a dict with the names source and target, and key and mask if you like; several sources are a dict "
        'of images by name, as "source"',
    ),
    "a source without an image": (
        "return {'source': {'a': pixels(0), 'b': 'b.png'}, 'target': pixels(0)}",
        "gives as its source b a str, expected a NumPy array",
    ),
    "no sources": ("return {'source': {}, 'target': pixels(0)}", "gives a dict without sources, expected images by na"),
    "sources of two sizes": (
        "return {'source': {'a': pixels(0), 'b': pixels(0)[:4]}, 'target': pixels(0)}",
        "its sources differ in size (height x width): a is",
    ),
    "a name with a dot": (
        "return {'source': {'a.b': pixels(0)}, 'target': pixels(0)}",
        "the name 'a.b', expected text",
    ),
    "a small mask": ("return pixels(index), pixels(index), 'key', pixels(0)[:4, :4]", "its mask is 4x4; expected of "),
    "a target is missing": ("return {'source': pixels(index)}", "[0] of its train set gives no target, expected"),
    "four parts": ("return (pixels(index),) * 4", "gives a ndarray as its key, expected text"),
    "five parts": (
        "return (pixels(index),) * 5",
        "gives a tuple of 5 (ndarray, ndarray, ndarray, ndarray, ndarr",
    ),
    "a mask behind the pair": ("return (pixels(index),) * 3", "gives a ndarray as its key, expected text"),
    "an image alone": ("return pixels(index)", "gives a ndarray, expected a Sample"),
    "a path": ("return 'a.png', 'b.png'", "gives as its source a str, expected a NumPy array"),
    "complex": ("return (pixels(index) * 1j,) * 2", "as its source values of type complex128, expected integers"),
    "complex tensors": ("return (torch.ones(3, 4, 4) * 1j,) * 2", "values of type complex64, expected integers"),
    "empty": ("return (pixels(index)[:0],) * 2", "a ndarray of shape (0, 20, 3), expected one image, which is not emp"),
    "a batch": ("return (torch.ones(1, 3, 20, 20),) * 2", "a Tensor of shape (1, 3, 20, 20): expected one image"),
    "channels first": (
        "return (pixels(index).transpose(2, 0, 1).copy(),) * 2",
        "a ndarray of shape (3, 20, 20): its channels come first; arrays are [H, W, C], so give numpy.moveaxis(array, ",
    ),
    "channels first in a Sample": (
        "return p2pkit.Sample(pixels(index), pixels(index).transpose(2, 0, 1).copy(), str(index))",
        "gives as its target a ndarray of shape (3, 20, 20): its channels come first",
    ),
    "a tensor with channels last": (
        "return (torch.ones(20, 20, 3),) * 2",
        "a Tensor of shape (20, 20, 3): its channels come last; tensors are [C, H, W], so give tensor.permute(2, 0, 1)",
    ),
    "a masked array": (
        "return p2pkit.Sample(np.ma.masked_greater(pixels(index), 100), pixels(index), str(index))",
        "a MaskedArray of shape (20, 20, 3): some of its values are masked, and masks are not taken, so fill them",
    ),
    "an exception": ("return self.files[index]", "[0] of its train set fails: AttributeError: 'Mine' object has no "),
    "sizes differ": ("return pixels(index), pixels(index)[1:]", "source and target differ in size"),
    "floats beyond 1": ("return (torch.ones(3, 20, 20) * 2,) * 2", "floating-point pixels must lie in [0, 1]"),
    "a fingerprint that is a number": (
        TUPLES + "\n\n    def fingerprint(self):\n        return 7",
        f"{OF}: its fingerprint() gives 7, expected a text",
    ),
    "a header that is none": (
        TUPLES + "\n\n    def header(self, index):\n        return (20, 20, 3)",
        f"{OF}: header(0) of its train set gives (20, 20, 3), expected a SampleHeader whose source is",
    ),
    "a header that fails": (
        TUPLES + "\n\n    def header(self, index):\n        return self.sizes[index]",
        f"{OF}: header(0) of its train set fails: AttributeError: ",
    ),
    "unpaired without targets": (
        "return pixels(index)\n\n    paired = False",
        f"{OF} has paired = False, but not both target(index) and targets, their number",
    ),
    "shards of others": (TUPLES + "\n\n    shards = (2, 2)", f"{OF}: its shards hold 4 samples, but len() is 6"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_cannot_be_used_is_one_sentence(
    wrong: str, plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    body, found = REFUSED[wrong]
    arguments = plugin(body)
    # resized to one size, they need not have one
    more = ("--set", "transform.keep_aspect=true") if wrong == "sizes differ" else ()
    for command in (("check", recipe), ("run", recipe, "--out", tmp_path / "run")):
        outcome = p2pkit(*arguments, *command, *MINE, *more)
        assert outcome.code == 2 and "Traceback" not in outcome.err
        assert found in " ".join(outcome.err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("made", ["iter([])", "Endless()", "3"])
def test_what_is_no_map_style_data_set_is_refused(made: str, plugin: Plugin, recipe: Path, p2pkit: Call) -> None:
    more = f"""
class Endless(IterableDataset):
    def __iter__(self):
        yield pixels(0), pixels(1)


def Mine():
    return {made}
"""
    outcome = p2pkit(*plugin(TUPLES, more=more), "check", recipe, *MINE)
    assert outcome.code == 2 and f"{OF} makes a " in outcome.err and "Traceback" not in outcome.err
    assert "which lacks len() or [index]; expected a map-style data set" in outcome.err


def test_a_sample_that_fails_is_skipped_where_the_recipe_says_so(
    plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    arguments = plugin("assert index != 3, 'three is broken'\n        " + TUPLES)
    stopped = p2pkit(*arguments, "run", recipe, "--out", tmp_path / "stopped", *MINE)
    assert stopped.code == 2 and f"{OF}: [3] of its train set fails: AssertionError: three is broken" in stopped.err
    settings = ("--set", "loader.bad_data=skip", "--set", "loader.workers=2", "--set", "train.max_steps=3")
    skipped = p2pkit(*arguments, "run", recipe, "--out", tmp_path / "skipped", *MINE, *settings)
    assert skipped.code == 0, skipped.err
    assert "[3] of its train set fails" in (tmp_path / "skipped" / "bad_data.jsonl").read_text()


DRAWS = """source = pixels(index)
        noise = np.random.randint(0, 9, source.shape), torch.randint(0, 9, source.shape).numpy(), random.randint(0, 9)
        return source, (source // 2 + sum(noise)).astype(np.uint8)"""


@pytest.mark.parametrize("cache", ["true", "false"])
def test_a_data_set_that_draws_resumes_exactly_and_does_not_depend_on_workers(
    cache: str, plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    arguments, runs = plugin(DRAWS), []
    for out, workers, steps in (("alone", 0, 7), ("workers", 2, 7), ("cut", 1, 4)):
        settings = ("--set", f"loader.workers={workers}", "--set", f"train.max_steps={steps}")
        settings = (*settings, "--set", f"loader.cache={cache}")
        outcome = p2pkit(*arguments, "run", recipe, "--out", tmp_path / out, *MINE, *settings)
        assert outcome.code == 0, outcome.err
        runs.append(tmp_path / out)
    resumed = p2pkit(*arguments, "run", "--resume", tmp_path / "cut", "--set", "train.max_steps=7")
    assert resumed.code == 0, resumed.err
    losses = [[line["generator/l1"] for line in lines(run) if line["split"] == "train"] for run in runs]
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 7
    weights = [load_file(run / "model.safetensors") for run in runs]
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in other)


class Drawing:
    """Gives what the global random states draw."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        drawn = np.random.rand(2, 2), np.full((2, 2), random.random()), torch.rand(2, 2).numpy()
        return np.stack(drawn, axis=2), np.stack(drawn, axis=2)


def test_draws_are_a_function_of_seed_epoch_and_index_and_change_no_state() -> None:
    samples = Samples(Drawing(), "mine", "train", seed=3)
    with seeded(5):
        expected = random.random(), np.random.rand(), float(torch.rand(()))
    with seeded(5):
        first = samples[1].source
        assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    assert np.array_equal(first, samples.read(1, 0).source)
    for other in (samples.read(1, 1), samples[2], Samples(Drawing(), "mine", "train", seed=4)[1]):
        assert not np.array_equal(first, other.source)
    assert samples.draws() and not Samples([(pixels(0), pixels(1))], "mine", "train").draws()
    copies = DataLoader(pickle.loads(pickle.dumps(samples)), batch_size=None, num_workers=2, collate_fn=list)
    assert all(np.array_equal(copy[0], samples[index].source) for index, copy in enumerate(copies))


def test_percentiles_of_a_data_set_that_draws_are_the_same_each_time(
    plugin: Plugin, recipe: Path, p2pkit: Call
) -> None:
    arguments, found = plugin(DRAWS), set()
    for _ in range(3):
        outcome = p2pkit(*arguments, "check", recipe, *MINE, "--set", "target.percentiles=[1, 99]")
        assert outcome.code == 0, outcome.err
        found.add(next(line for line in outcome.out.splitlines() if line.startswith("target")))
    assert len(found) == 1


def test_without_a_fingerprint_it_is_that_of_the_content() -> None:
    def fingerprint(*images: Any) -> str:
        return Samples([(image, image) for image in images], "mine", "train").fingerprint()

    images = [pixels(index) for index in range(100)]
    prints = {fingerprint(*images), fingerprint(*images[:99]), fingerprint(255 - images[0], *images[1:])}
    prints |= {fingerprint(*images[:-1], images[-1].astype(np.uint16)), fingerprint(*reversed(images))}
    assert len(prints) == 5 and fingerprint(*images) in prints and all(prints)
    broken = Samples([(images[0], images[0]), None], "mine", "train")
    assert broken.fingerprint()


def test_a_changed_tuple_is_changed_data(plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    assert p2pkit(*plugin(TUPLES), "run", recipe, "--out", tmp_path / "run", *MINE).code == 0
    changed = p2pkit(*plugin("return pixels(index), pixels(index + 8)"), "run", "--resume", tmp_path / "run")
    assert changed.code == 2 and "is not what this run was trained on" in changed.err


def test_what_torch_offers_is_taken_as_it_is() -> None:
    images = torch.rand(4, 3, 5, 6)
    samples = Samples(Subset(TensorDataset(images, images.flip(1)), [2, 3]), "mine", "val")
    assert len(samples) == 2 and samples[1].key == "val_00001" and not isinstance(samples, DatasetWithHeaders)
    assert np.array_equal(samples[0].target, images[2].flip(0).permute(1, 2, 0).numpy())
    with pytest.raises(IndexError):
        samples[2]
    assert len(list(samples)) == 2  # type: ignore[call-overload]


def test_errors_of_a_data_set_itself_are_left_as_they_are() -> None:
    class Missing(Drawing):
        def __getitem__(self, index: int) -> Any:
            raise DataError("a.png: there is no such file")

    with pytest.raises(DataError, match=r"^a.png: there is no such file$"):
        Samples(Missing(), "mine", "train")[0]
    with pytest.raises(RecipeError, match="which lacks len"):
        Samples(iter(()), "mine", "train")


SPLITS = {
    'split: Literal["train", "test"]': (6, 0, 2),
    "split: str": (6, 0, 2),
    "split": (6, 0, 2),
    'split: Literal["train", "val"]': (6, 3, 0),
    'split: Literal["train", "val", "test"]': (6, 3, 2),
    "split: p2pkit.contracts.Split": (6, 3, 2),
}


@pytest.mark.parametrize("parameter", SPLITS)
def test_a_data_set_is_asked_for_the_splits_of_its_annotation(
    parameter: str, plugin: Plugin, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    more = f"""
from typing import Literal
import p2pkit.contracts

class Mine(Mine):
    def __init__(self, {parameter}):
        self.split = split
        self.count = {{"train": 6, "val": 3, "test": 2}}[split]

    def __len__(self):
        return self.count
"""
    arguments, expected = plugin("return (pixels(index + 7 * len(self)),) * 2", more=more), SPLITS[parameter]
    outcome = p2pkit(*arguments, "run", recipe, "--out", tmp_path / "run", *MINE)
    assert outcome.code == 0, outcome.err
    data = json.loads((tmp_path / "run" / "environment.json").read_text())["data"]
    assert (data["pairs"], data["val_pairs"], data["test_pairs"]) == expected
    assert data["validated_on"] == ("val" if expected[1] else "test")
    serves_as_both = "there is no val set: the test set serves as both"
    assert (serves_as_both in outcome.err) == (serves_as_both in " ".join(data["notices"])) == (not expected[1])
    called = "val set" if expected[1] else "test set, which serves as val set too"
    assert f"metrics of the {called}:" in outcome.out
