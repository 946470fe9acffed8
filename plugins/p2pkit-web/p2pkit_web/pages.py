"""The page and its files: read once, known by their names alone, so that no path leads anywhere else."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from p2pkit_web.answers import Refusal

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Pages:
    """Serves what is in the package's folder ``static``."""

    def __init__(self, page: str) -> None:
        """``page`` is the file that is served at /."""
        self._page = page
        self._files = dict[str, tuple[bytes, str, str]]()
        for found in files("p2pkit_web").joinpath("static").iterdir():
            kind = TYPES.get(found.name.rpartition(".")[2])
            if kind is not None:
                data = found.read_bytes()
                self._files[found.name] = data, kind, f'"{hashlib.sha256(data).hexdigest()[:24]}"'

    def routes(self) -> list[Route]:
        """The page, and its files."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/static/{name}", self.file, methods=["GET"]),
        ]

    async def page(self, request: Request) -> Response:
        """The page."""
        return self._answer(request, self._page)

    async def file(self, request: Request) -> Response:
        """One of its files."""
        return self._answer(request, request.path_params["name"])

    def _answer(self, request: Request, name: str) -> Response:
        if name not in self._files:
            raise Refusal(404, "there is no such file", "the page is at /")
        data, kind, tag = self._files[name]
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        return Response(data, 200, headers, kind)
