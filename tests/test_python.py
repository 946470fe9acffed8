"""Training from Python: files, dicts, overrides, twice in one process, a notebook, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import load_file

import p2pkit as library
from p2pkit.errors import P2PKitError, RecipeError
from p2pkit.utils.progress import Progress
from tests.conftest import lines, steps_of_checkpoints

CPU = {"device": "cpu"}


def weights(file: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


def test_a_file_a_dict_and_overrides_train_alike(recipe: Path, tmp_path: Path) -> None:
    overrides = {"train.max_steps": 3, "losses.1.weight": 10, "data.root": tmp_path / "pairs"}
    tables = tomllib.loads(recipe.read_text())
    tables["data"]["root"] = tmp_path / "pairs"
    by_file = library.train(recipe, overrides, tmp_path / "file", **CPU)
    by_text = library.train(str(recipe), ["train.max_steps=3", "losses.1.weight=10"], str(tmp_path / "text"), **CPU)
    by_dict = library.train(tables, overrides, tmp_path / "dict", **CPU)
    assert by_file.step == by_dict.step == 3 and by_file.run_dir == tmp_path / "file"
    assert by_file.model_path == tmp_path / "file" / "model.safetensors"
    assert weights(by_file.model_path) == weights(by_text.model_path) == weights(by_dict.model_path)
    assert by_file.metrics == by_dict.metrics and "validation/mae" in by_file.metrics
    recorded = json.loads((tmp_path / "dict" / "environment.json").read_text())
    assert recorded["overrides"]["train.max_steps"] == 3


def test_the_command_line_gives_what_python_gives(recipe: Path, tmp_path: Path, p2pkit: Any) -> None:
    assert p2pkit("run", recipe, "--out", tmp_path / "typed", "--device", "cpu").code == 0
    result = library.train(recipe, out=tmp_path / "called", **CPU)
    assert weights(tmp_path / "typed" / "model.safetensors") == weights(result.model_path)


def test_a_result_loads_its_model(recipe: Path, tmp_path: Path) -> None:
    translate = library.train(recipe, out=tmp_path / "run", **CPU).load_model(**CPU)
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    first, second = translate([image, np.zeros((16, 16, 3), np.uint8)])
    assert first.size == (30, 20) and second.shape == (16, 16, 3)
    assert np.array_equal(np.asarray(first), np.asarray(translate(image)))
    assert repr(translate).startswith("<Translator 'unet' of p2pkit ") and "3 channels of uint8" in repr(translate)


def test_two_precisions_in_one_process(recipe: Path, tmp_path: Path) -> None:
    plain = library.train(recipe, out=tmp_path / "plain", **CPU)
    mixed = library.train(recipe, {"train.precision": "bf16"}, tmp_path / "mixed", **CPU)
    again = library.train(recipe, out=tmp_path / "again", **CPU)
    assert weights(plain.model_path) == weights(again.model_path) != weights(mixed.model_path)


def test_what_is_wrong_is_an_exception_and_no_folder(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"generator\.widht: unknown key; did you mean 'width'"):
        library.train(recipe, {"generator.widht": 4}, tmp_path / "run")
    with pytest.raises(RecipeError, match="TOML does not have"):
        library.train({"data": {"name": object()}}, out=tmp_path / "run")
    with pytest.raises(P2PKitError, match="not a run folder"):
        library.resume(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_run_stopped_early_is_resumed(recipe: Path, tmp_path: Path) -> None:
    whole = library.train(recipe, {"train.max_steps": 6}, tmp_path / "whole", **CPU)
    cut = library.train(recipe, {"train.max_steps": 6}, tmp_path / "cut", **CPU)
    for folder in (cut.run_dir / "checkpoints").iterdir():
        if folder.name > "step_00000004":  # as a kill after step 4 would leave it
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    resumed = library.resume(cut.run_dir, **CPU)
    assert resumed.step == 6 and resumed.metrics == whole.metrics
    assert whole.model_path.read_bytes() == resumed.model_path.read_bytes()


def interrupt_when_training(run: Path) -> threading.Thread:
    def wait() -> None:
        log = run / "metrics.jsonl"
        while not log.exists() or log.read_text().count("\n") < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_raises_after_a_checkpoint_and_resume_ends_the_same(recipe: Path, tmp_path: Path) -> None:
    overrides = {"train.max_steps": 60, "train.checkpoint_every": 1000, "train.sample_every": 1000}
    run = tmp_path / "run"
    thread = interrupt_when_training(run)
    with pytest.raises(KeyboardInterrupt, match=r"p2pkit\.resume\('[^']*run', device='cpu'\)") as stopped:
        library.train(recipe, overrides, run, **CPU)
    thread.join()
    assert isinstance(stopped.value, P2PKitError)
    (step,) = steps_of_checkpoints(run)
    assert 3 <= step < 60
    resumed = library.resume(run, **CPU)
    whole = library.train(recipe, overrides, tmp_path / "whole", **CPU)
    assert weights(resumed.model_path) == weights(whole.model_path) and lines(run) == lines(whole.run_dir)


def test_a_script_trains(recipe: Path, tmp_path: Path) -> None:
    script, run = tmp_path / "script.py", tmp_path / "run"
    arguments = f"{str(recipe)!r}, {{'loader.workers': 2}}, out={str(run)!r}, device='cpu'"
    script.write_text(
        f"import p2pkit\nif __name__ == '__main__':\n    print(p2pkit.train({arguments}).metrics['validation/mae'])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == lines(run)[-1]["validation/mae"]


def test_a_notebook_trains_and_shows_progress(recipe: Path, tmp_path: Path) -> None:
    cells = [
        f"import p2pkit\nresult = p2pkit.train({str(recipe)!r}, out={str(tmp_path / 'run')!r}, device='cpu')",
        "result.load_model()",
        f"p2pkit.train({str(recipe)!r}, {{'train.precision': 'bf16'}}, {str(tmp_path / 'mixed')!r}, device='cpu').step",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    trained, loaded, mixed = ([str(output) for output in cell.outputs] for cell in notebook.cells)
    shown = [text for text in trained if "display_data" in text]
    assert any("training: 4/4" in text and "0:00 left" in text for text in shown), trained
    assert "<Translator 'unet'" in loaded[0] and "'4'" in mixed[-1]
    assert weights(tmp_path / "run/model.safetensors") != weights(tmp_path / "mixed/model.safetensors")


def test_the_public_names_are_listed() -> None:
    listed = dir(library)
    assert {"train", "resume", "load_model", "load_data", "create", "components", "hookimpl"} <= set(listed)
    assert all(getattr(library, name) is not None for name in listed)
    assert not [name for name in listed if name.startswith("_") and name != "__version__"]


def test_progress_does_not_take_a_program_for_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ipykernel")  # as a tracker imports it
    with Progress("reading", 2, "pair") as progress:
        progress.advance(2)
    shown = capsys.readouterr()
    assert shown.out == "" and "reading: 2/2" in shown.err
