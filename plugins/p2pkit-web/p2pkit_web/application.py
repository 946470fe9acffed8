"""The web application of models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from p2pkit_web.answers import Limits
from p2pkit_web.api import Api
from p2pkit_web.assembling import protected
from p2pkit_web.metrics import Metrics
from p2pkit_web.models import Models
from p2pkit_web.pages import Pages
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

    routes = [*Pages("page.html").routes(), *Api(models, translating, metrics).routes()]
    return protected(routes, metrics, token, HINTS, lifespan)
