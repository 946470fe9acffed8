"""The paths of the API, beside translating: models, their examples, progress, previews, metrics."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from p2pkit.errors import P2PKitError
from p2pkit.images.reading import read_image_bytes
from p2pkit.inference.in_memory import written
from p2pkit_web.answers import Refusal
from p2pkit_web.describing import described, for_the_eye, range_of_files, summary
from p2pkit_web.examples import Examples
from p2pkit_web.metrics import CONTENT_TYPE, Metrics
from p2pkit_web.models import Model, Models
from p2pkit_web.openapi import document
from p2pkit_web.translating import Translating, refuse_large
from p2pkit_web.uploads import Upload, body_of, images_in


class Api:
    """What the paths of the API do."""

    def __init__(self, models: Models, translating: Translating, metrics: Metrics) -> None:
        self._models, self._translating, self._metrics = models, translating, metrics
        self._examples = Examples()

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/api/translate", self._translating.answer, methods=["POST"]),
            Route("/api/preview", self.preview, methods=["POST"]),
            Route("/api/models", self.models, methods=["GET"]),
            Route("/api/models/{model}", self.model, methods=["GET"]),
            Route("/api/models/{model}/examples", self.examples, methods=["GET"]),
            Route("/api/models/{model}/examples/{place:int}", self.example, methods=["GET"]),
            Route("/api/progress/{job}", self.progress, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """Which models there are."""
        found = await self._translating.threaded(self._models.search)
        return JSONResponse({"models": [summary(model) for model in found]})

    async def model(self, request: Request) -> Response:
        """What a model takes and gives."""
        model = self._models.get(request.path_params["model"])
        return JSONResponse(await self._of_loaded(model, described))

    async def examples(self, request: Request) -> Response:
        """The examples of a model."""
        model = self._models.get(request.path_params["model"])
        return JSONResponse(await self._of_loaded(model, self._examples.of))

    async def example(self, request: Request) -> Response:
        """A source of an example."""
        model, place = self._models.get(request.path_params["model"]), request.path_params["place"]
        name = request.query_params.get("source", "")
        data, kind = await self._of_loaded(model, partial(self._examples.source, place=place, name=name))
        return Response(data, media_type=kind)

    async def progress(self, request: Request) -> Response:
        """How far a translation is."""
        found = self._translating.jobs.get(request.path_params["job"])
        if found is None:
            raise Refusal(404, "there is no such job now", "it may be done, or has not arrived yet")
        return JSONResponse({"share": found.share})

    async def preview(self, request: Request) -> Response:
        """An image file as an 8-bit PNG, which any browser shows."""
        model, limits = self._models.get(request.query_params.get("model")), self._translating.limits
        translator = await self._translating.loaded(model)
        name = request.query_params.get("source", "")
        header = next((one for one in translator.header.each_source if one.name == name), None)
        if header is None:
            raise Refusal(404, f"this model has no source {name[:100]!r}")

        def shown(upload: Upload) -> tuple[bytes, str]:
            height, width = refuse_large(upload, limits)
            pixels = for_the_eye(
                read_image_bytes(upload.data, upload.name), range_of_files(header.range, header.reading.channels)
            )
            return written(translator, pixels, upload.name, "png")[0], f"{width}x{height}"

        async with body_of(request, limits, self._translating.budget) as body:
            uploads = await images_in(request, body, [""], request.query_params.get("name", "image"))
            try:
                data, size = await self._translating.threaded(shown, uploads[""])
            except P2PKitError as error:
                raise Refusal(422, str(error), "send an image file") from error
        return Response(data, media_type="image/png", headers={"X-Image-Size": size})

    async def openapi(self, request: Request) -> Response:
        """The description of the API."""
        return JSONResponse(document())

    async def metrics(self, request: Request) -> Response:
        """The metrics."""
        self._metrics.models.set(self._models.in_memory)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _of_loaded(self, model: Model, about: Any) -> Any:
        """What ``about`` says of a model and its translator; a Refusal where it cannot be loaded."""

        def look() -> Any:
            return about(model, self._models.loaded(model))

        try:
            return await asyncio.get_running_loop().run_in_executor(None, look)
        except P2PKitError as error:
            raise Refusal(422, model.told(error), "p2pkit inspect MODEL says more") from error
