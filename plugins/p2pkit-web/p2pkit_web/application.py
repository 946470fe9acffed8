"""The web application: routes behind the protection, and errors as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from p2pkit_web.answers import Limits, Refusal
from p2pkit_web.api import Api
from p2pkit_web.metrics import Metrics
from p2pkit_web.models import Models
from p2pkit_web.pages import Pages
from p2pkit_web.protection import Protection
from p2pkit_web.translating import Translating

HINTS = {404: "the page is at /, the API at /openapi.json", 405: "GET /openapi.json says which methods there are"}


def application(models: Models, limits: Limits, token: str | None = None) -> Starlette:
    """The application that serves ``models``; with a ``token`` to those alone who have it."""
    metrics = Metrics()
    translating = Translating(models, limits, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        translating.end()

    return Starlette(
        routes=[*Pages().routes(), *Api(models, translating, metrics).routes()],
        middleware=[Middleware(Protection, token=token, metrics=metrics)],
        exception_handlers={
            Refusal: _refused, HTTPException: _not_found, Exception: _failed,
        },
        lifespan=lifespan,
    )  # fmt: skip


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.answer()


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Refusal(error.status_code, error.detail, HINTS.get(error.status_code, ""), error.headers).answer()


async def _failed(request: Request, error: Exception) -> Response:
    # uvicorn prints it
    return Refusal(500, "a fault of the server, which has printed it", "report it to the authors").answer()
