"""The API gives what p2pkit translate gives, says what models are, and describes itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from web_site import SOURCE, Site, changed, encoded, form, model_of, serving

from p2pkit import load_model
from p2pkit.images.reading import read_image
from p2pkit.inference.in_memory import ready
from p2pkit.inference.model_file import read_model, write_model
from p2pkit.inference.model_header import EncodingHeader, SourceHeader
from p2pkit_web.answers import Limits
from p2pkit_web.metrics import Metrics
from p2pkit_web.network import Job, Network
from tests.conftest import Call, picture, untrained_model

DEEP = picture(24, 32, 3).astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("kind", "ending", "options", "query"),
    [
        ("PNG", "png", [], {}),
        ("JPEG", "jpg", [], {}),
        ("PNG", "png", ["--seed", 5], {"seed": 5}),
        ("PNG", "png", ["--format", "tif"], {"format": "tif"}),
        ("PNG", "png", ["--tile", 16], {"tile": 16}),
        ("PNG", "png", ["--as", "right"], {"as": "right"}),
    ],
)
def test_pixels_are_those_of_translate(
    kind: str, ending: str, options: list[Any], query: dict[str, Any], site: Site, model: Path, tmp_path: Path,
    p2pkit: Call,
) -> None:  # fmt: skip
    source, out = tmp_path / f"scan.{ending}", tmp_path / "out"
    source.write_bytes(encoded(picture(24, 32, 1), kind))
    assert p2pkit("translate", model, source, "--out", out, "--device", "cpu", *options).code == 0
    (made,) = (file for file in out.iterdir() if not file.name.startswith("."))
    answer = site.translate(source.read_bytes(), name=source.name, **query)
    assert answer.status == 200, answer.body
    assert np.array_equal(answer.pixels, read_image(made).squeeze())
    assert made.name in answer.headers["Content-Disposition"]


def test_sixteen_bits_stay_sixteen_bits(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    deep = changed(model, "deep", source_dtype="uint16", target_dtype="uint16", target_ending=".tif")
    (source := tmp_path / "scan.tif").write_bytes(encoded(DEEP, "TIFF"))
    assert p2pkit("translate", deep, source, "--out", tmp_path / "out", "--device", "cpu").code == 0
    with serving(deep) as site:
        answer = site.translate(source.read_bytes(), "image/tiff", name="scan.tif")
        assert answer.headers["Content-Type"] == "image/tiff" and answer.pixels.dtype == np.uint16
        assert np.array_equal(answer.pixels, read_image(tmp_path / "out" / "scan.tif"))
        shown = site.translate(source.read_bytes(), name="scan.tif", preview=1)
        assert shown.headers["Content-Type"] == "image/png"
        assert np.abs(shown.pixels.astype(float) - answer.pixels / 257).max() <= 0.51
        preview = site.ask("POST", "/api/preview", source.read_bytes(), {"Content-Type": "image/tiff"}, name="scan.tif")
        assert preview.headers["X-Image-Size"] == "32x24"
        assert np.array_equal(preview.pixels, (DEEP // 257).astype(np.uint8))


def test_a_part_is_translated_as_that_part_alone(site: Site) -> None:
    part = encoded(picture(24, 32, 1)[4:20, 8:24])
    cropped = site.translate(SOURCE, crop="8,4,16,16", **{"as": "image"})
    assert np.array_equal(cropped.pixels, site.translate(part, **{"as": "image"}).pixels)


def test_colours_are_shown_as_they_are_written(model: Path, tmp_path: Path) -> None:
    lightness, colours = {"channels": "lab_L"}, {"channels": "lab_ab"}
    coloured = model_of(
        tmp_path / "coloured.safetensors", 1, 2, source_range=(0.0, 100.0), source_reading=lightness,
        target_range=(-110.0, 110.0), target_reading=colours,
    )  # fmt: skip
    photo = picture(24, 32, 1)
    with serving(coloured) as site:
        written = site.translate(encoded(photo))
        assert np.array_equal(written.pixels, load_model(coloured, "cpu")(photo))
        assert np.array_equal(site.translate(encoded(photo), preview=1).pixels, written.pixels)
        shown = site.ask("POST", "/api/preview", encoded(photo, "TIFF"), {"Content-Type": "application/octet-stream"})
        assert np.array_equal(shown.pixels, photo)


def test_several_sources_are_a_form(model: Path, tmp_path: Path) -> None:
    parts = tuple(SourceHeader(name=name, channels=count, dtype="uint8") for name, count in (("a", 1), ("b", 2)))
    several = changed(model, "several", sources=parts, source_dtype="")
    gray, two = picture(24, 32, 1, 1)[:, :, 0], np.ascontiguousarray(picture(24, 32, 2)[:, :, :2])
    body, kind = form({"a": encoded(gray), "b": encoded(np.asarray(Image.fromarray(two, "LA")))})
    with serving(several) as site:
        described = site.get("/api/models/several").json
        assert [each["name"] for each in described["sources"]] == ["a", "b"]
        answer = site.translate(body, kind)
        assert answer.status == 200 and answer.pixels.shape == (24, 32, 3)
        lacking = site.translate(*form({"a": encoded(gray)}))
        assert lacking.status == 422 and "'b'" in lacking.json["error"]


def test_what_a_model_takes_is_told(site: Site, model: Path) -> None:
    (listed,) = site.get("/api/models").json["models"]
    told = site.get(f"/api/models/{listed['id']}").json
    assert told["noise"] and told["step"] == 7 and told["sources"][0]["kind"] == "photo"
    with serving("p2pkit:quickstart") as shipped:
        told = shipped.get("/api/models/quickstart").json
        assert not told["noise"] and told["sources"][0]["kind"] == "labels"
        window = told["sources"][0]["classes"][2]
        assert window == {"name": "window", "values": [0, 85, 255], "colour": "#0055ff"}
        keys = shipped.get("/api/models/quickstart/examples").json["keys"]
        example = shipped.get("/api/models/quickstart/examples/1")
        assert keys[1] == "val_00001" and example.pixels.shape == (128, 128, 3)
        assert shipped.get("/api/models/quickstart/examples/99").status == 404


def test_classes_by_number_can_be_drawn(model: Path, tmp_path: Path) -> None:
    encoding = EncodingHeader(
        name="one_hot", parameters={"classes": 3}, distribution="p2pkit", distribution_version="0"
    )
    header, weights = read_model(model)
    behind = {f"network.{name}": value for name, value in weights.items()}
    numbered = model.with_name("numbered.safetensors")
    write_model(numbered, behind, header.model_copy(update={"encoding": encoding, "source_channels": 1}))
    with serving(numbered) as site:
        (source,) = site.get("/api/models/numbered").json["sources"]
        assert source["kind"] == "labels" and [each["values"] for each in source["classes"]] == [[0], [1], [2]]
        assert site.translate(encoded(np.zeros((16, 16), np.uint8))).status == 200


def test_every_route_is_described(site: Site) -> None:
    document = site.get("/openapi.json").json
    served = {
        (route.path.replace(":int", ""), method) for route in site.app.routes for method in route.methods - {"HEAD"}
    }
    told = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert served == told
    (translate,) = document["paths"]["/api/translate"].values()
    for parameter in translate["parameters"]:
        wrong = site.translate(SOURCE, **{parameter["name"]: "\0"})
        assert wrong.status in (200, 400, 404), parameter
    assert site.translate(SOURCE, sead=1).json["error"].endswith("did you mean 'seed'?")


def test_a_damaged_model_is_told_of_without_its_path(model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(model.read_bytes()[:5000])
    with serving(damaged) as site:
        for answer in (site.get("/api/models/damaged"), site.translate(SOURCE)):
            assert answer.status == 422 and "damaged: the model file cannot be read" in answer.json["error"]
            assert str(tmp_path) not in answer.json["error"]


def test_what_is_counted(site: Site) -> None:
    site.translate(SOURCE)
    assert site.get("/nothing").status == 404
    text = site.get("/metrics").body.decode()
    assert 'p2pkit_requests_total{path="/api/translate",status="200"} 1.0' in text
    assert 'p2pkit_requests_total{path="other",status="404"} 1.0' in text
    assert "p2pkit_images_total 1.0" in text and "p2pkit_loaded_models 1.0" in text


def test_a_run_is_followed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "small" / "20260101-000000"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text("")
    (run / ".owner").write_text("process 1")
    with serving() as site:
        with FileLock(run / ".lock"):
            first, shipped = site.get("/api/models").json["models"]
            assert first["training"] and not first["there"] and shipped["id"] == "quickstart"
        (run / ".lock").touch()  # as a kill leaves it
        assert not site.get("/api/models").json["models"][0]["training"]
        early = site.translate(SOURCE, model=first["id"])
        assert early.status == 404 and "first checkpoint" in early.json["hint"]
        (run / "model.safetensors").write_bytes(model.read_bytes())
        before = site.translate(SOURCE, model=first["id"])
        assert before.status == 200
        untrained_model(run / "model.safetensors", "resnet", width=4, blocks=1)
        after = site.translate(SOURCE, model=first["id"])
        assert after.headers["X-Model-Version"] != before.headers["X-Model-Version"]
        assert not np.array_equal(after.pixels, before.pixels)


def test_what_takes_too_long_is_given_up(model: Path) -> None:
    large = encoded(picture(512, 512, 1))
    with serving(model, limits=Limits(seconds=0.3)) as site:
        late = site.translate(large, tile=16)
        assert late.status == 503 and late.headers["Retry-After"] and "0.3 seconds" in late.json["error"]
        assert site.translate(SOURCE).status == 200


def test_more_than_may_wait_are_told_to_come_again(model: Path) -> None:
    large, answers = encoded(picture(512, 512, 1)), list[int]()
    with serving(model, limits=Limits(waiting=1)) as site:
        asked = [
            threading.Thread(target=lambda: answers.append(site.translate(large, tile=64).status)) for _ in range(4)
        ]
        for each in asked:
            each.start()
        for each in asked:
            each.join()
        assert sorted(set(answers)) == [200, 503]


def test_sources_that_wait_go_through_a_gpu_together(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # on a CPU, where each goes by itself; that they wait for each other is what is tried
    monkeypatch.setattr(Job, "on_gpu", property(lambda job: job.source is not None))
    metrics, translator = Metrics(), load_model(model, "cpu")
    network, begun = Network(metrics), threading.Event()
    sources = [ready(translator, picture(16, 16, number), "x").trained for number in range(10)]
    network.do(Job(translator, work=begun.wait))
    other = ready(translator, picture(32, 16, 1), "x").trained
    jobs = [Job(translator, source, 3) for source in sources] + [
        Job(translator, other, 3),
        Job(translator, sources[0], 4),
    ]
    waiting = [network.do(job) for job in jobs]
    waiting[1].cancel()
    begun.set()
    made = [None if each.cancelled() else each.result() for each in waiting]
    network.end()
    for job, output in zip(jobs, made, strict=True):
        if output is not None and job.source is not None:
            assert output.equal(translator.tensor(job.source[None], job.seed)[0])
    counts = metrics.text().decode()
    # what blocks, eight of one size and seed (one of them has gone), two more, another size, another seed
    assert "p2pkit_network_seconds_count 5.0" in counts and "p2pkit_images_total 12.0" in counts


def test_progress_of_tiles_is_told(site: Site) -> None:
    large, shares = encoded(picture(512, 512, 1)), list[float]()
    asked = threading.Thread(target=lambda: site.translate(large, tile=32, job="job-of-this-test"))
    asked.start()
    while asked.is_alive():
        answer = site.get("/api/progress/job-of-this-test")
        if answer.status == 200:
            shares.append(answer.json["share"])
    asked.join()
    assert shares == sorted(shares) and shares[-1] > 0
