"""POST /api/translate: decoded in a few threads, through the network in its own, encoded; within limits all the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from p2pkit.errors import P2PKitError, is_out_of_memory
from p2pkit.images.reading import image_header_bytes, read_image_bytes
from p2pkit.inference.in_memory import finished, in_tiles, read_source, ready, written
from p2pkit_web.answers import Limits, Refusal, busy
from p2pkit_web.describing import for_the_eye, range_of_outputs
from p2pkit_web.metrics import Metrics
from p2pkit_web.models import Model, Models
from p2pkit_web.network import Job, Network
from p2pkit_web.parameters import Parameters
from p2pkit_web.uploads import Budget, Upload, body_of, images_in

if TYPE_CHECKING:
    from p2pkit import Translator

T = TypeVar("T")
Pixels = NDArray[Any] | dict[str, NDArray[Any]]
CODERS = 2
"""Threads that decode and encode beside the network."""
TYPES = {".png": "image/png", ".tif": "image/tiff", ".tiff": "image/tiff"}


class Stopped(Exception):  # noqa: N818 - nobody waits for it any more
    """Work in tiles whose request is gone."""


@dataclass
class Progress:
    """How far a request is."""

    share: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self, share: float) -> None:
        """Take note of the share that is done; raises Stopped when nobody waits for it."""
        if self.stopped.is_set():
            raise Stopped
        self.share = share


class Translating:
    """The translations of a server."""

    def __init__(self, models: Models, limits: Limits, metrics: Metrics) -> None:
        self.models, self.limits, self._metrics = models, limits, metrics
        self.network, self.pool = Network(metrics), ThreadPoolExecutor(CODERS, "coder")
        self.budget, self.jobs, self._waiting = Budget(limits.arriving_bytes), dict[str, Progress](), 0

    def end(self) -> None:
        """End the threads."""
        for progress in list(self.jobs.values()):
            progress.stopped.set()
        self.network.end()
        self.pool.shutdown(cancel_futures=True)

    async def answer(self, request: Request) -> Response:
        """The translation of the image, or images, in a request.

        Raises:
            Refusal: it cannot be had.
        """
        parameters = Parameters.of(request.query_params)
        model, progress = self.models.get(parameters.model), Progress()
        self._refuse_more()
        translator = await self.loaded(model)
        names = [one.name for one in translator.header.each_source]
        async with body_of(request, self.limits, self.budget) as body:
            uploads = await images_in(request, body, names, parameters.name)
            with self._admitted(model, parameters.job, progress):
                work = self._translated(translator, uploads, parameters, progress)
                data, name, timing = await self._in_time(request, work, progress)
        return Response(
            data, media_type=TYPES.get(Path(name).suffix, "application/octet-stream"),
            headers={
                "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}",
                "Server-Timing": timing, "X-Model-Version": model.version,
            },
        )  # fmt: skip

    async def loaded(self, model: Model) -> Translator:
        """The translator of a model. Raises Refusal where it cannot be loaded."""
        try:
            return await self.threaded(self.models.loaded, model)
        except P2PKitError as error:
            raise Refusal(422, model.told(error), "p2pkit inspect MODEL says more") from error

    async def threaded(self, work: Callable[..., T], *arguments: Any) -> T:
        """What ``work`` gives in one of the threads beside the network."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(work, *arguments))

    def _refuse_more(self) -> None:
        if self._waiting >= self.limits.waiting:
            raise busy(f"{self._waiting} requests are waiting already")

    @contextmanager
    def _admitted(self, model: Model, job: str | None, progress: Progress) -> Iterator[None]:
        self._refuse_more()
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        if job is not None:
            self.jobs[job] = progress
        try:
            with self._metrics.translations.labels(model.id).time():
                yield
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)
            if job is not None:
                self.jobs.pop(job, None)

    async def _in_time(self, request: Request, work: Awaitable[T], progress: Progress) -> T:
        """What ``work`` gives; it is stopped where that takes too long, or nobody waits for it."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
        try:
            seconds = self.limits.seconds
            done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return task.result()
            if gone in done:
                raise Refusal(400, "the client has gone")
            raise busy(f"the translation took more than {seconds:g} seconds")
        finally:
            progress.stopped.set()
            for each in (task, gone):
                each.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await each

    async def _translated(
        self, translator: Translator, uploads: Mapping[str, Upload], parameters: Parameters, progress: Progress
    ) -> tuple[bytes, str, str]:
        """The bytes of the output, what it is called, and what took how long."""
        name, times = next(iter(uploads.values())).name, [time.perf_counter()]
        try:
            pixels = await self.threaded(_decoded, translator, uploads, parameters, self.limits)
            if parameters.tile is not None:
                work = partial(
                    in_tiles, translator, pixels, name, parameters.seed, parameters.tile, parameters.overlap,
                    progress.watch,
                )  # fmt: skip
                job, source = Job(translator, work=work), None
            else:
                size = translator.chosen_size(parameters.size)
                source = await self.threaded(ready, translator, pixels, name, size)
                job = Job(translator, source.trained, parameters.seed)
            times.append(time.perf_counter())
            output = await asyncio.wrap_future(self.network.do(job))
            times.append(time.perf_counter())
            data, called = await self.threaded(_encoded, translator, source, output, name, parameters)
            times.append(time.perf_counter())
        except P2PKitError as error:
            raise Refusal(422, str(error), "see p2pkit inspect MODEL for what it takes") from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise Refusal(
                413, "there is not enough memory for this image", "give tile=512, or a smaller image"
            ) from error
        steps = zip(("decode", "network", "encode"), times, times[1:], strict=False)
        return data, called, ", ".join(f"{step};dur={1000 * (end - begin):.1f}" for step, begin, end in steps)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def refuse_large(upload: Upload, limits: Limits) -> tuple[int, int]:
    """(height, width) of an image by its header; a Refusal where it has more pixels than it may."""
    height, width, _ = image_header_bytes(upload.data, upload.name)
    if height * width > limits.pixels:
        raise Refusal(
            413, f"{upload.name}: the image has {height * width} pixels, and {limits.pixels} are taken",
            "send a smaller one, or start the server with a larger --max-pixels",
        )  # fmt: skip
    return height, width


def _decoded(translator: Translator, uploads: Mapping[str, Upload], parameters: Parameters, limits: Limits) -> Pixels:
    """The pixels of each source, cropped."""
    pixels: Pixels
    for upload in uploads.values():
        refuse_large(upload, limits)
    if translator.header.sources:
        read = {name: read_image_bytes(each.data, each.name) for name, each in uploads.items()}
        several = {name: _cropped(image, parameters) for name, image in read.items()}
        first, pixels = next(iter(several.values())), several
    else:
        upload = uploads[""]
        first = _cropped(read_source(translator, upload.data, upload.name, parameters.stored_as), parameters)
        pixels = first
    height, width, _ = first.shape
    resized = translator.header.resize is not None and parameters.size != "native" and parameters.tile is None
    if height * width > limits.whole_pixels and parameters.tile is None and not resized:
        raise Refusal(
            413, f"the image has {height * width} pixels, and {limits.whole_pixels} go through this model whole",
            "give tile=512, or a smaller image",
        )  # fmt: skip
    if height * width * translator.header.scale**2 > 4 * limits.pixels:
        raise Refusal(413, f"the output would have {translator.header.scale} times its height and width", "crop it")
    return pixels


def _cropped(pixels: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
    if parameters.crop is None:
        return pixels
    left, top, width, height = parameters.crop
    if left + width > pixels.shape[1] or top + height > pixels.shape[0]:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise Refusal(422, f"crop={left},{top},{width},{height}: the image is {size}", "stay within it")
    return pixels[top : top + height, left : left + width]


def _encoded(translator: Translator, source: Any, output: Any, name: str, parameters: Parameters) -> tuple[bytes, str]:
    pixels = output if source is None else finished(translator, source, output)
    if parameters.preview:
        return written(translator, for_the_eye(pixels, range_of_outputs(translator)), name, "png")
    return written(translator, pixels, name, parameters.format, parameters.tile is not None)
