"""A server of models, and requests to it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import tifffile
from PIL import Image

from p2pkit import create, load_model
from p2pkit.inference.model_file import read_model, write_model
from p2pkit.inference.model_header import EncodingHeader
from p2pkit.networks.encoding import Encoded
from p2pkit_web.answers import Limits
from p2pkit_web.application import application
from p2pkit_web.models import Models
from p2pkit_web.server import opened, server
from tests.conftest import picture, write_untrained


@dataclass
class Answer:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pixels(self) -> Any:
        if self.body[:2] in (b"II", b"MM"):
            return tifffile.imread(BytesIO(self.body))
        return np.asarray(Image.open(BytesIO(self.body)))


@dataclass
class Site:
    """A server, by its port."""

    port: int
    app: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Answer:
        """The answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        address = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request(method, address, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        """The answer to a GET."""
        return self.ask("GET", path, None, headers, **query)

    def translate(self, body: bytes, kind: str = "application/octet-stream", **query: Any) -> Answer:
        """The answer to a POST of an image."""
        return self.ask("POST", "/api/translate", body, {"Content-Type": kind}, **query)


@contextmanager
def serving(*named: Path | str, limits: Limits | None = None, token: str | None = None) -> Iterator[Site]:
    """A server of models on a port of its own, in a thread."""
    models = Models([str(each) for each in named], lambda each: load_model(each, "cpu"))
    with running(application(models, limits or Limits(), token)) as site:
        yield site


@contextmanager
def running(app: Any) -> Iterator[Site]:
    """An application on a port of its own, in a thread."""
    listening = opened("127.0.0.1", 0)
    program = server(app)
    thread = threading.Thread(target=program.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        for _ in range(1000):
            if program.started:
                break
            time.sleep(0.01)
        yield Site(listening.getsockname()[1], app)
    finally:
        program.should_exit = True
        thread.join()


def changed(model: Path, name: str, **header: Any) -> Path:
    """The same model with another header, in a file of its own."""
    own, weights = read_model(model)
    write_model(file := model.with_name(f"{name}.safetensors"), weights, own.model_copy(update=header))
    return file


def model_of(
    file: Path, sources: int = 3, targets: int = 3, encoding: EncodingHeader | None = None, **header: Any
) -> Path:
    """A model file whose untrained U-Net takes and gives so many channels."""
    parameters, seen, first = {"depth": 3, "width": 4, "dropout": 0.5}, sources, None
    if encoding is not None:
        of = {"source_channels": sources, "source_range": (0.0, 255.0)}
        first = create("encodings", encoding.name, **of, **encoding.parameters)
        seen = first.channels
    network = create("generators", "unet", source_channels=seen, target_channels=targets, **parameters)
    generator = network if first is None else Encoded(first, network)
    channels = {"source_channels": sources, "target_channels": targets}
    return write_untrained(
        file, generator, generator="unet", parameters=parameters, encoding=encoding, **channels, **header
    )


def encoded(pixels: Any, kind: str = "PNG") -> bytes:
    """Pixels as an image file: of Pillow's, or a TIFF."""
    stream = BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(stream, pixels)
    else:
        Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def form(files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """The body of a form with files, and its type."""
    parts = []
    for name, data in files.items():
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.png"\r\n\r\n'
        parts += [head.encode(), data, b"\r\n"]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


SOURCE = encoded(picture(24, 32, 1))
