"""--json: one JSON object on stdout, with the numbers that the text has; what is refused is one too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Call, lines, picture, save


def test_a_run(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    words = ("--device", "cpu", "--set", "train.checkpoint_every=2", "--set", "validation.every=2")
    run = tmp_path / "run"
    ended = p2pkit("run", recipe, "--out", run, "--json", *words)
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["run_dir"], found["model"], found["step"]) == (str(run), str(run / "model.safetensors"), 4)
    assert found["best_step"] in (2, 4) and Path(found["best_model"]).is_file() and Path(found["samples"]).is_file()
    assert found["validated_on"].startswith("test set") and found["stopped"] == "" and found["values"] == ""
    assert found["device"].startswith("cpu, threads: ") and found["seconds"] > 0
    last = [line for line in lines(run) if "validation/mae" in line][-1]
    assert found["metrics"]["validation"]["mae"] == last["validation/mae"]
    assert set(found["not_beaten"]) <= set(found["metrics"]["validation"])
    text = p2pkit("run", "--resume", run, "--device", "cpu").out  # it is at its end: the same metrics again
    for name, value in found["metrics"]["validation"].items():
        assert f"validation/{name}: {value:.4f}" in text
    again = p2pkit("run", "--resume", run, "--json", "--device", "cpu").json
    assert again["metrics"] == found["metrics"] and again["best_step"] == found["best_step"]


def test_a_check(recipe: Path, p2pkit: Call) -> None:
    text = " ".join(p2pkit("check", recipe).out.split())
    checked = p2pkit("check", recipe, "--json")
    assert checked.code == 0
    found = checked.json
    assert found["ok"] is True and found["recipe"] == str(recipe) and found["data"]["name"] == "side_by_side"
    assert found["data"]["sets"] == {"train": {"pairs": 6}, "val": {"pairs": 0}, "test": {"pairs": 2}}
    assert "6 training pairs, 0 val pairs, 2 test pairs" in text
    source = found["data"]["sides"]["source"]
    assert (source["size"], source["channels"], source["dtype"]) == ([24, 24], 3, "uint8")
    assert source["range"] == [0, 255] and f"source values: {source['range_from']} becomes" in text
    generator, discriminator = found["networks"]["generator"], found["networks"]["discriminator"]
    assert f"generator: {generator['name']}, {generator['parameters'] / 1e6:.3f} M parameters" in text
    assert (generator["source"], generator["output"]) == ([3, 16, 16], [3, 16, 16])
    assert f"receptive field: {discriminator['receptive_field']} pixels" in text
    logits = ", ".join("x".join(map(str, each)) for each in discriminator["logits"])
    assert f"logits {logits}" in text
    assert found["data"]["notices"] and all(f"NOTICE: {each}" in checked.err for each in found["data"]["notices"])


def test_a_check_that_finds_trouble(recipe: Path, pairs: Path, p2pkit: Call) -> None:
    save(pairs / "train" / "2.png", picture(24, 48, 1, channels=1))
    refused = p2pkit("check", recipe, "--json")
    found = refused.json
    assert refused.code == 2 and found["ok"] is False and "networks" not in found
    (trouble,) = found["data"]["troubles"]
    assert "2.png" in trouble and trouble in found["error"] and f"Error: {found['error']}" in refused.err
    skipping = p2pkit("check", recipe, "--json", "--set", 'loader.bad_data="skip"').json
    assert skipping["ok"] is True and skipping["data"]["troubles"] == [] and skipping["data"]["skipped"] == [trouble]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["run", "{recipe}", "--set", "train.max_stepz=4"], "did you mean 'max_steps'"),
        (["run", "--resume", "{folder}/nothing"], "give a run folder"),
        (["check", "{folder}/no.toml"], "no.toml"),
        (["translate", "{folder}/no.safetensors", "x.png", "--out", "o"], "there is no such model file"),
        (["translate", "{folder}/no.safetensors", "--out", "o"], "give INPUT"),
        (["evaluate", "{folder}/no.safetensors"], "there is no such model file"),
    ],
)
def test_what_is_refused(command: list[str], said: str, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    words = [word.format(recipe=recipe, folder=tmp_path) for word in command]
    refused = p2pkit(*words, "--json")
    assert refused.code == 2 and list(refused.json) == ["error"] and said in refused.json["error"]
    assert refused.json["error"] in refused.err
    assert p2pkit(*words).out == ""


def test_translations(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    images = tmp_path / "in"
    for name in ("a/1.png", "2.png"):
        save(images / name, picture(16, 16, 1))
    done = p2pkit("translate", model, images, "--out", tmp_path / "o", "--samples", "2", "--json")
    assert done.code == 0
    outputs = [(Path(each["source"]).name, Path(each["output"])) for each in done.json["outputs"]]
    assert sorted((name, path.name) for name, path in outputs) == [
        ("1.png", "1_0.png"), ("1.png", "1_1.png"), ("2.png", "2_0.png"), ("2.png", "2_1.png"),
    ]  # fmt: skip
    assert all(path.is_file() for _, path in outputs) and (done.json["skipped"], done.json["failures"]) == (0, [])
    (images / "bad.png").write_text("this is not an image")
    words = ("translate", model, images, "--out", tmp_path / "o", "--samples", "2", "--skip-existing")
    failed = p2pkit(*words, "--json")
    found = failed.json
    assert failed.code == 2 and found["outputs"] == [] and found["skipped"] == 2
    assert len(found["failures"]) == 1 and "bad.png" in found["failures"][0]
    assert found["error"].startswith("1 of 3 images could not be translated; the other 2 are done (2 were there alread")
    alone = p2pkit("translate", model, images / "bad.png", "--out", tmp_path / "p")
    assert alone.code == 2 and "Error: 1 image could not be translated:\n" in alone.err


def test_an_evaluation(model: Path, recipe: Path, p2pkit: Call) -> None:
    measured = p2pkit("evaluate", model, "--data", recipe, "--json", "--device", "cpu")
    assert measured.code == 0 and json.loads(measured.out)["images"] == 2
    text = p2pkit("evaluate", model, "--data", recipe, "--device", "cpu").out
    assert re.search(rf"model +{measured.json['rows']['model']['mae']:.4f}", text)
