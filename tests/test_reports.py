"""The page on a run: what is on it, that it asks nothing of any host, and that it never stands in the way of a run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from base64 import b64decode, b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import p2pkit as library
from p2pkit.run_dir import RunDir
from p2pkit.training.sample_grids import Row, write_grid
from tests.conftest import Call, train, validation

SETTINGS = ("train.max_steps=12", "validation.every=4", "train.sample_every=4", "run.name='two & <three>'")


class Page(HTMLParser):
    """A page as a browser takes it apart: its elements, and the text in them."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", list[tuple[dict[str, str | None], str]]()
        self.feed(file.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif self.cdata_elem is None:
            self.text += f" {data}"

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        named = [found for name, found in self.elements if name == tag]
        return [found for found in named if all(found.get(key) == value for key, value in wanted.items())]


def decoded(uri: str | None) -> Any:
    assert uri is not None and uri.startswith("data:image/")
    return np.asarray(Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB"), dtype=float)


@pytest.fixture
def run(p2pkit: Call, recipe: Path, tmp_path: Path) -> Path:
    return train(p2pkit, recipe, tmp_path / "run", *SETTINGS)


def test_a_page_asks_nothing_of_any_host_and_runs_its_own_script_alone(run: Path) -> None:
    page = Page(run / "report.html")
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), attributes
        assert not [name for name in attributes if name.startswith("on")]
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    programs = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    assert len(programs) == 1
    digest = b64encode(hashlib.sha256(programs[0].encode()).digest()).decode()
    assert "default-src 'none'" in str(policy["content"]) and f"script-src 'sha256-{digest}'" in str(policy["content"])
    style = (run / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_it_has_the_numbers_of_the_run(run: Path) -> None:
    page = Page(run / "report.html")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["split"] == "validation"][-1]
    for name in ("mae", "psnr", "ssim"):
        assert f" {name} " in page.text and f"{last[f'validation/{name}']:.4f}" in page.text
        assert f"{last[f'mean_target/{name}']:.4f}" in page.text
    for said in (
        "finished", "12 of 12", "6 train, 2 test", "24x24, 3 channels of uint8, values 0 to 255", "2 images of the",
        "test set, which serves as val set too", "patchgan_16", "gan of weight 1.0, l1 of weight", "train.max_steps=12",
        "side_by_side", "Accuracy of the discriminator", "Adversarial losses (gan)", "Generator l1", "Validation mae",
        "Learning rate", "torch ", "peak memory",
    ):  # fmt: skip
        assert said in page.text, said
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "finished" and status["step"] == 12 and status["peak_memory"] > 2**20
    assert status["parameters"].keys() == {"generator", "discriminator"}
    assert validation(run)["monitor"] == "mae" and validation(run)["higher_is_better"]["psnr"] is True


def test_plots_say_in_words_and_as_a_table_what_they_show(run: Path) -> None:
    page = Page(run / "report.html")
    (plot,) = [each for each in page.all("div", role="img") if "Generator l1" in str(each["aria-label"])]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = [line["generator/l1"] for line in lines if line["split"] == "train"]
    assert f"l1: {values[0]:.1f} at step 1, {values[-1]:.1f} at step 12" in str(plot["aria-label"])
    points = [json.loads(text) for attributes, text in page.scripts if attributes.get("type") == "application/json"]
    assert len(points) == len(page.all("figure", **{"class": "plot card"})) >= 6
    assert any(series["values"][-1] == f"{values[-1]:.1f}" for plot in points for series in plot["series"])
    assert all(each.get("alt") for each in page.all("img"))
    svg = (run / "report.html").read_text()
    assert "var(--series-0)" in svg and "#0a0" not in svg  # colours are the page's, for light and dark


def test_samples_go_through_time_and_are_those_of_the_grids(run: Path) -> None:
    page = Page(run / "report.html")
    (slider,) = page.all("input", id="time")
    assert json.loads(str(slider["data-steps"])) == [4, 8, 12] and len(page.all("input", type="range")) == 1 + 2
    outputs = [each for each in page.all("img") if "data-step" in each]
    assert [each["data-step"] for each in outputs] == ["4", "8", "12"] * 2
    assert [("hidden" in each) for each in outputs] == [True, True, False] * 2
    with Image.open(run / "samples" / "step_00000012.png") as grid:
        rows = json.loads(grid.text["p2pkit.grid"])["rows"]  # type: ignore[attr-defined]
        for row, shown in zip(rows, outputs[2::3], strict=True):
            cut = np.asarray(grid.crop(row["boxes"]["output"]), dtype=float)
            assert np.abs(decoded(shown["src"]) - cut).mean() < 6  # packed with loss
            assert shown["alt"] == f"output for {row['key']} at step 12"
    assert "best, mae" in page.text and "worst, mae" in page.text
    with Image.open(run / "validation.png") as grid:
        notes = [row["note"] for row in json.loads(grid.text["p2pkit.grid"])["rows"]]  # type: ignore[attr-defined]
    values = [float(note.rpartition(" ")[2]) for note in notes]
    assert values == sorted(values) and np.mean(values) == pytest.approx(last_mae(run), rel=1e-3)


def last_mae(run: Path) -> float:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([line for line in lines if line["split"] == "validation"][-1]["validation/mae"])


def test_what_others_have_written_is_text(p2pkit: Call, run: Path) -> None:
    attack = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
    (run / "recipe.source.toml").write_text(f"# {attack}")
    environment = json.loads((run / "environment.json").read_text())
    environment["starts"][0]["host"] = environment["data"]["notices"] = attack
    environment["data"]["notices"] = [attack]
    (run / "environment.json").write_text(json.dumps(environment))
    assert p2pkit("report", run).code == 0
    page = Page(run / "report.html")
    assert page.text.count("alert(1)") == 3 and not page.all("img", src="x")
    assert len([1 for attributes, _ in page.scripts if attributes.get("type") != "application/json"]) == 1
    assert "two & <three>" in page.text


def test_the_command_writes_it_again_where_it_is_told(p2pkit: Call, run: Path, tmp_path: Path) -> None:
    before = Page(run / "report.html").text
    (run / "report.html").unlink()
    outcome = p2pkit("report", run)
    assert outcome.code == 0 and outcome.out == f"report: {run / 'report.html'}\n"
    without_time = re.compile(r"Written by .*")
    assert without_time.sub("", Page(run / "report.html").text) == without_time.sub("", before)
    found = p2pkit("report", run, "--out", tmp_path / "new" / "page.html", "--json").json
    assert found == {"report": str(tmp_path / "new" / "page.html"), "warnings": {"two & <three>": []}}
    assert (tmp_path / "new" / "page.html").stat().st_size > 10_000
    for wrong, said in ((run / "model.safetensors", "a name that ends in .html"), (run, "a name that ends in .html")):
        outcome = p2pkit("report", run, "--out", wrong)
        assert outcome.code == 2 and said in outcome.err
    outcome = p2pkit("report", tmp_path / "pairs")
    assert outcome.code == 2 and "not a run folder" in outcome.err
    (run / "status.json").write_text('{"step": "many"}')
    outcome = p2pkit("report", run)
    assert outcome.code == 2 and "status.json" in outcome.err and "damaged" in outcome.err


def test_a_run_that_was_killed_is_not_training(p2pkit: Call, run: Path) -> None:
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "running", "step": 6, "progress": 0.5}))
    (run / ".owner").write_text("process 1")
    with FileLock(run / ".lock"):
        assert p2pkit("report", run).code == 0
    page = (run / "report.html").read_text()
    assert ">training</span>" in page and "<progress" in page and "without a word" not in page
    (run / ".lock").touch()  # a kill leaves it, and no lock
    assert p2pkit("report", run).code == 0
    page = (run / "report.html").read_text()
    assert ">killed</span>" in page and "<progress" not in page and "p2pkit run --resume" in page


def test_runs_side_by_side(p2pkit: Call, run: Path, recipe: Path, tmp_path: Path) -> None:
    other = train(p2pkit, recipe, tmp_path / "other", *SETTINGS, "optimizer.lr=0.01", "run.name='fast'")
    written = library.report([run, other], tmp_path / "both.html")
    assert written.file == tmp_path / "both.html" and [*written.warnings] == ["two & <three>", "fast"]
    page = Page(written.file)
    assert "2 runs side by side" in page.text and "optimizer.lr 0.0002 0.01" in page.text
    assert "train.max_steps" not in page.text  # in which they do not differ
    for each in (run, other):
        assert f"{last_mae(each):.4f}" in page.text
    assert len([each for each in page.all("img") if str(each["alt"]).startswith("output of fast")]) == 2
    labels = [json.loads(str(each["data-labels"])) for each in page.all("figure", **{"class": "plot card"})]
    assert labels and all(each == ["two & <three>", "fast"] for each in labels)


def test_a_folder_of_fifty_samples_gives_less_than_ten_megabytes(p2pkit: Call, run: Path) -> None:
    for file in (run / "samples").iterdir():
        file.unlink()
    first = RunDir(run).sample(1)
    images = [torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in range(3)]
    write_grid(first, "", [Row(f"{row}.png", images) for row in range(4)])  # nothing is harder to pack than noise
    for step in range(2, 51):
        shutil.copy(first, RunDir(run).sample(step))
    shutil.copy(RunDir(run).sample(1), run / "validation.png")
    assert p2pkit("report", run).code == 0
    assert len([each for each in Page(run / "report.html").all("img") if "data-step" in each]) == 200
    assert 10**6 < (run / "report.html").stat().st_size < 10**7


class Watch:
    """What the report says while a run goes on."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_step_end(self, run: Any) -> None:
        page = run.run_dir / "report.html"
        self.seen.append(Page(page).text if page.exists() else "")


def test_it_is_there_while_a_run_goes_on(recipe: Path, tmp_path: Path) -> None:
    watch = Watch()
    library.train(recipe, out=tmp_path / "run", device="cpu", callbacks=[watch])
    assert watch.seen[0] == "" and "training" in watch.seen[1] and "1 of 4" in watch.seen[1]
    assert "finished" in Page(tmp_path / "run" / "report.html").text


class Breaks:
    """Does something at the second step."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def on_step_end(self, run: Any) -> None:
        if run.step == 2:
            self.what(run)


def fails(run: Any) -> None:
    raise ValueError("of our own")


def test_a_run_that_fails_says_so_on_its_page(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(library.errors.CallbackError):
        library.train(recipe, out=tmp_path / "run", device="cpu", callbacks=[Breaks(fails)])
    page = Page(tmp_path / "run" / "report.html")
    assert "failed" in page.text and "of our own" in page.text and "2 of 4" in page.text


def in_the_way(run: Any) -> None:
    (run.run_dir / "report.html").unlink()
    (run.run_dir / "report.html").mkdir()
    (run.run_dir / "report.html" / "mine").write_text("")


@pytest.fixture
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A report whenever there is something new."""
    monkeypatch.setattr("p2pkit.training.run_report.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("p2pkit.training.run_report.SHARE", 1e9)
    return iter(())


@pytest.mark.usefixtures("written_at_once")
def test_a_report_that_cannot_be_written_ends_no_run(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = library.train(recipe, out=tmp_path / "run", device="cpu", callbacks=[Breaks(in_the_way)])
    said = capsys.readouterr().err
    assert result.step == 4 and result.model_path.exists()
    assert said.count("the report is not written") == 1 and "report.html" in said
