"""What the server answers with where it cannot do what it is asked: JSON that says what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

RETRY_SECONDS = 2
"""After how long a client should ask again where the server has too much to do."""
REASONS = {
    400: "a parameter is not what it should be",
    401: "the token is missing or wrong",
    403: "the request comes from another site",
    404: "there is no such model, example or path",
    405: "the path does not take this method",
    408: "the body did not arrive in time",
    413: "the image has too many bytes or pixels",
    415: "the body is not an image",
    421: "the Host header names another server",
    422: "the image cannot be read, or is not what the model takes",
    500: "a fault of the server",
    503: "too much to do, or it took too long; Retry-After says when to ask again",
}
"""Every status of an error, and what it means."""


@dataclass
class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is not served: its status, what is wrong, and what to do."""

    status: int
    error: str
    hint: str = ""
    headers: Mapping[str, str] | None = None

    def answer(self) -> JSONResponse:
        """The answer."""
        body: dict[str, Any] = {"error": self.error, "hint": self.hint}
        return JSONResponse(body, self.status, dict(self.headers or {}))


def busy(error: str) -> Refusal:
    """The refusal of a server that has too much to do."""
    return Refusal(503, error, "ask again later", {"Retry-After": str(RETRY_SECONDS)})


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and all of them together."""

    body_bytes: int = 64 * 10**6
    """Of a body, all its files together."""
    pixels: int = 36 * 10**6
    """Of an image, known from its header before it is decoded."""
    whole_pixels: int = 4_200_000
    """Of an image that goes through the network at its own size and not in tiles."""
    body_seconds: float = 30.0
    """Until a body has arrived."""
    seconds: float = 120.0
    """From then on until its translation is there."""
    waiting: int = 32
    """Requests that are decoded, wait for the network or are encoded."""
    arriving_bytes: int = 512 * 10**6
    """Of all bodies that are arriving or are held."""
