"""Hostile requests: each is refused with the status that says why, and the server serves on as before."""

from __future__ import annotations

import http.client
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from web_site import SOURCE, Answer, Site, encoded, form, serving

from p2pkit_web import server as server_module
from p2pkit_web.answers import Limits
from tests.conftest import picture, untrained_model

TOKEN = "a-token-of-this-test"
LIMITS = Limits(body_bytes=200_000, pixels=100_000, whole_pixels=50_000, body_seconds=0.5, arriving_bytes=10**6)
IMAGE = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    model = untrained_model(tmp_path_factory.mktemp("guarded") / "guarded.safetensors", "unet", depth=4, width=4)
    with serving(model, limits=LIMITS) as site:
        yield site


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def post(body: bytes, kind: str = "image/png", **query: object) -> Callable[[Site], Answer]:
    return lambda site: site.translate(body, kind, **query)


def get(path: str, **headers: str) -> Callable[[Site], Answer]:
    return lambda site: site.get(path, {name.replace("_", "-"): value for name, value in headers.items()})


def raw(request: bytes, then: float = 0.0) -> Callable[[Site], Answer]:
    """Bytes as they are, and what comes back within a few seconds."""

    def send(site: Site) -> Answer:
        with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
            connection.sendall(request)
            time.sleep(then)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    return send


def chunked(site: Site) -> Answer:
    """More bytes than may be, of which nothing is said beforehand."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    parts = (b"\0" * 10_000 for _ in range(25))
    connection.request("POST", "/api/translate", parts, {**IMAGE, "Transfer-Encoding": "chunked"}, encode_chunked=True)
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


HEAD = "POST /api/translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
HOSTILE = {
    "more bytes than may be": (post(b"\0" * 200_001), 413),
    "more bytes than may be, in chunks": (chunked, 413),
    "more pixels than may be": (post(encoded(np.zeros((400, 400, 3), np.uint8))), 413),
    "more pixels than go through whole": (post(encoded(np.zeros((250, 250, 3), np.uint8))), 413),
    "a decompression bomb": (post(bomb(50_000, 50_000)), 422),
    "a small bomb": (post(bomb(5_000, 5_000)), 413),
    "a lie about the size": (post(bomb(100, 100)), 422),
    "a text": (post(b"This is not an image.", "text/plain"), 415),
    "a text that says it is an image": (post(b"This is not an image."), 422),
    "half an image": (post(SOURCE[: len(SOURCE) // 2]), 422),
    "nothing": (post(b""), 422),
    "garbage JSON": (post(b'{"image": [1, 2', "application/json"), 415),
    "a form that is none": (post(b"--edge\r\nrubbish", "multipart/form-data; boundary=edge"), 422),
    "a form without an edge": (post(b"rubbish", "multipart/form-data"), 400),
    "a form with too many files": (post(*form({str(number): b"x" for number in range(50)})), 400),
    "an archive": (post(b"PK\x03\x04" + b"\0" * 100, "application/octet-stream", name="x.npz"), 422),
    "a pickle": (
        post(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", name="x.npy"),
        422,
    ),
    "a number that is none": (post(SOURCE, seed="1e99"), 400),
    "a tile of no size": (post(SOURCE, tile="0"), 400),
    "a tile that does not fit": (post(SOURCE, tile="17"), 422),
    "a crop beyond the image": (post(SOURCE, crop="0,0,9999,1"), 422),
    "a format that is a path": (post(SOURCE, format="../../x"), 400),
    "a model that is a path": (post(SOURCE, model="../../../etc/passwd"), 404),
    "a file outside": (raw(b"GET /static/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404),
    "a file outside, disguised": (get("/static/..%2f..%2fcommand.py"), 404),
    "another host": (get("/", Host="evil.example"), 421),
    "another host's name before ours": (get("/", Host="127.0.0.1.evil.example:80"), 421),
    "no host": (raw(b"GET / HTTP/1.0\r\n\r\n"), 421),
    "another origin": (get("/api/models", Origin="https://evil.example"), 403),
    "an origin that is hidden": (get("/api/models", Origin="null"), 403),
    "the origin of another port": (get("/api/models", Origin="http://127.0.0.1:1"), 403),
    "a script of another site": (get("/api/models", Sec_Fetch_Site="cross-site"), 403),
    "an image on another site's page": (get("/api/models/model/examples/0", Sec_Fetch_Site="same-site"), 403),
    "a method that is not": (lambda site: site.ask("DELETE", "/api/models"), 405),
    "a path that is not": (get("/admin"), 404),
    "a broken chunk": (raw(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n".encode(), then=0.8), 400),
    "a slow body": (raw(f"{HEAD}Content-Length: 100\r\n\r\nabc".encode(), then=0.8), 408),
    "headers without end": (raw(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000), 400),
    "not HTTP": (raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400),
}


@pytest.mark.parametrize(("request_", "status"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_requests_are_refused(
    request_: Callable[[Site], Answer], status: int, guarded: Site, caplog: pytest.LogCaptureFixture
) -> None:
    before = guarded.translate(SOURCE)
    answer = request_(guarded)
    assert answer.status == status, answer.body
    if answer.headers.get("Content-Type") == "application/json":
        assert answer.json["error"] and "Traceback" not in answer.json["error"]
    after = guarded.translate(SOURCE)
    assert after.status == 200 and after.body == before.body
    metrics = guarded.get("/metrics").body.decode()
    assert "p2pkit_waiting 0.0" in metrics
    assert "Exception" not in caplog.text


TOO_MUCH = {
    "a length": (f"{HEAD}Content-Length: 900000\r\n\r\n", b"\0" * 50_000, 413),
    "chunks": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n", b"C350\r\n" + b"\0" * 50_000 + b"\r\n", 413),
    "headers": ("GET / HTTP/1.1\r\nX: ", b"a" * 50_000, 400),
}


@pytest.mark.parametrize(("head", "part", "status"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_an_answer_arrives_although_its_request_is_still_being_sent(
    head: str, part: bytes, status: int, guarded: Site
) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=5) as connection:
        connection.sendall(head.encode())
        for _ in range(12):
            connection.sendall(part)
            time.sleep(0.02)  # behind the first parts the server has answered
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == status and response.read()
        assert connection.recv(1) == b""


def test_a_refused_request_without_end_is_cut(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LINGER_SECONDS", 0.3)
    began = time.monotonic()
    with serving(model) as site, socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        connection.sendall(f"{HEAD}Content-Length: 9000000000\r\n\r\n".encode())
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 30:
                connection.sendall(b"\0" * 100)
                time.sleep(0.05)


def test_refused_requests_do_not_keep_the_server(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(model) as site:
        refused = socket.create_connection(("127.0.0.1", site.port), timeout=5)
        refused.sendall(f"{HEAD}Content-Length: 9000000000\r\n\r\n".encode())
        assert refused.recv(12) == b"HTTP/1.1 413"
    refused.close()
    assert "exceeded" not in caplog.text


def test_uploads_that_are_broken_off_leave_nothing(guarded: Site) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
            connection.sendall(f"{HEAD}Content-Length: 150000\r\n\r\n".encode() + b"\0" * 100_000)
    # together they are half of what may arrive at once
    assert guarded.translate(SOURCE).status == 200
    large = encoded(picture(200, 200, 1))
    assert [guarded.translate(large, tile=64).status for _ in range(8)] == [200] * 8


def test_a_client_that_goes_away_does_not_keep_the_network(model: Path) -> None:
    with serving(model) as site:
        large = encoded(picture(2000, 2000, 1))
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            head = HEAD.replace("/api/translate", "/api/translate?tile=16")
            connection.sendall(f"{head}Content-Length: {len(large)}\r\n\r\n".encode() + large)
            time.sleep(1.5)
        began = time.monotonic()
        assert site.translate(SOURCE).status == 200
        # all its tiles take minutes
        assert time.monotonic() - began < 20


def test_connections_on_which_nothing_begins_are_closed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEADER_SECONDS", 0.2)
    with serving(model) as site, socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert connection.recv(100) == b""


def test_a_token_is_asked_for_and_opens(model: Path) -> None:
    with serving(model, token=TOKEN) as site:
        assert site.get("/").status == site.get("/api/models").status == site.get("/metrics").status == 401
        assert site.get("/", token="another-token").status == 401
        assert site.get("/api/models", {"Authorization": f"Bearer {TOKEN}x"}).status == 401
        assert site.get("/api/models", {"Authorization": f"Bearer {TOKEN}"}).status == 200
        entry = site.get("/", token=TOKEN)
        cookie = entry.headers["Set-Cookie"]
        assert entry.status == 303 and entry.headers["Location"] == "/" and TOKEN not in entry.headers["Location"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
        assert site.get("/", {"Cookie": cookie.partition(";")[0]}).status == 200
        # by any name of this machine, since the token is what counts; but not for another site's scripts
        named = {"Host": f"studio.local:{site.port}", "Authorization": f"Bearer {TOKEN}"}
        assert site.get("/api/models", named).status == 200
        assert site.get("/api/models", {**named, "Origin": "http://evil.example"}).status == 403


def test_the_page_loads_nothing_from_elsewhere(site: Site) -> None:
    page = site.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy.replace("'self'", "")
    static = Path(server_module.__file__).with_name("static")
    for file in static.iterdir():
        text = file.read_text().replace("http://www.w3.org", "")
        assert "http://" not in text and "https://" not in text, file
        assert site.get(f"/static/{file.name}").status == 200
    assert site.get("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200


def test_a_fault_is_told_as_one_and_as_safely(guarded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("p2pkit_web.api.summary", lambda model: 1 / 0)
        answer = guarded.get("/api/models")
    assert answer.status == 500 and "a fault of the server" in answer.json["error"]
    assert answer.headers["Content-Security-Policy"] == guarded.get("/").headers["Content-Security-Policy"]
    assert guarded.get("/api/models").status == 200
