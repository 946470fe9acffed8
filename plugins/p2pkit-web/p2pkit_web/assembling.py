"""What the applications share: routes behind the protection, and errors as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from p2pkit_web.answers import Refusal
from p2pkit_web.metrics import Metrics
from p2pkit_web.protection import Protection


def protected(
    routes: Sequence[BaseRoute], metrics: Metrics, token: str | None, hints: Mapping[int, str], lifespan: Any = None
) -> Starlette:
    """An application of these routes; with a ``token`` for those alone who have it.

    ``hints`` are what a client is told for a status that no route has answered with.
    """

    async def not_found(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Refusal(error.status_code, error.detail, hints.get(error.status_code, ""), error.headers).answer()

    return Starlette(
        routes=routes,
        middleware=[Middleware(Protection, token=token, metrics=metrics)],
        exception_handlers={Refusal: _refused, HTTPException: not_found},
        lifespan=lifespan,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.answer()
