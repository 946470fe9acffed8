"""The description of the API that /openapi.json gives, by the OpenAPI Specification 3.1."""

from __future__ import annotations

from typing import Any

from p2pkit import __version__
from p2pkit_web.answers import REASONS
from p2pkit_web.parameters import DESCRIBED

IMAGE = {"type": "string", "format": "binary"}
ERROR = {
    "type": "object", "required": ["error", "hint"],
    "properties": {"error": {"type": "string"}, "hint": {"type": "string"}},
}  # fmt: skip
EVERYWHERE, OF_BODIES = (401, 403, 405, 421, 500), (400, 404, 408, 413, 415, 422, 503)
MODEL, PLACE = ("model", "The id of a model."), ("place", "Which example, from 0 on.")


def document() -> dict[str, Any]:
    """The document."""
    of_source = {"name": "source", "in": "query", "schema": {"type": "string"}, "description": "Which source, by name."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "p2pkit", "version": __version__,
            "description": "Images through models of p2pkit. Errors are JSON: what is wrong, and what to do.",
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/": {"get": _operation("The page to draw on.", [], "text/html", {"type": "string"}, ())},
            "/static/{name}": {
                "get": _operation("A file of the page.", [_of_path("name", "The file.")], "text/css", IMAGE, (404,))
            },
            **_taking_images(of_source),
            "/api/models": {"get": _operation("Which models there are.", [])},
            "/api/models/{model}": {
                "get": _operation("What a model takes and gives.", [_of_path(*MODEL)], statuses=(404, 422))
            },
            "/api/models/{model}/examples": {
                "get": _operation("The keys of examples of its val set.", [_of_path(*MODEL)], statuses=(404, 422))
            },
            "/api/models/{model}/examples/{place}": {
                "get": _operation(
                    "A source of an example, as an image file.", [_of_path(*MODEL), _of_path(*PLACE), of_source],
                    "image/*", IMAGE, (404, 422),
                )
            },
            "/api/progress/{job}": {
                "get": _operation(
                    "How much of a translation is done, 0 to 1.", [_of_path("job", "What it was called.")],
                    statuses=(404,),
                )
            },
            "/openapi.json": {"get": _operation("This document.", [])},
            "/metrics": {"get": _operation("Metrics for Prometheus.", [], "text/plain", {"type": "string"})},
        },
        "security": [{}, {"token": []}],
    }  # fmt: skip


def _taking_images(of_source: dict[str, Any]) -> dict[str, Any]:
    """The paths that take images."""
    translating = _operation(
        "Translate an image: the same pixels, depth and format as p2pkit translate.",
        [_of_query(name) for name in DESCRIBED], "image/*", IMAGE, OF_BODIES,
    )  # fmt: skip
    several = _body("The image file; of several sources a form with one file each, by name.")
    names = [_of_query("name"), _of_query("model"), of_source]
    showing = _operation("An image file as an 8-bit PNG.", names, "image/png", IMAGE, OF_BODIES)
    return {
        "/api/translate": {"post": {**translating, "requestBody": several}},
        "/api/preview": {"post": {**showing, "requestBody": _body("The image file.")}},
    }


def _operation(
    summary: str, parameters: list[dict[str, Any]], kind: str = "application/json",
    schema: dict[str, Any] | None = None, statuses: tuple[int, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    answers: dict[str, Any] = {
        "200": {"description": "Done.", "content": {kind: {"schema": schema or {"type": "object"}}}}
    }
    for status in sorted({*EVERYWHERE, *statuses}):
        answers[str(status)] = {
            "description": REASONS[status], "content": {"application/json": {"schema": ERROR}},
        }  # fmt: skip
    return {"summary": summary, "parameters": parameters, "responses": answers}


def _body(about: str) -> dict[str, Any]:
    form = {"type": "object", "additionalProperties": IMAGE}
    kinds = {"image/*": IMAGE, "application/octet-stream": IMAGE, "multipart/form-data": form}
    return {"required": True, "description": about, "content": {kind: {"schema": each} for kind, each in kinds.items()}}


def _of_query(name: str) -> dict[str, Any]:
    schema, about = DESCRIBED[name]
    return {"name": name, "in": "query", "schema": dict(schema), "description": about}


def _of_path(name: str, about: str) -> dict[str, Any]:
    kind = "integer" if name == "place" else "string"
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}, "description": about}
