"""The paths of a study: a session is begun, its pairs are shown and answered; nothing else is told."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from p2pkit_web.answers import Limits, Refusal, busy
from p2pkit_web.study.folder import Study
from p2pkit_web.study.noise import noise, png
from p2pkit_web.study.storage import Answers, Record, Shown
from p2pkit_web.uploads import Budget, body_of

LIMITS = Limits(body_bytes=1000, body_seconds=10.0, arriving_bytes=10**6)
LONGEST_MS = 1e9
SESSION, TRIAL = "/api/sessions/{session}", "/api/sessions/{session}/trials/{place}"


class Sessions:
    """What the paths of a study do."""

    def __init__(self, study: Study) -> None:
        self._study, self._answers, self._budget = study, Answers(study.answers), Budget(LIMITS.arriving_bytes)

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/api/study", self.study, methods=["GET"]),
            Route("/api/sessions", self.begin, methods=["POST"]),
            Route(SESSION, self.session, methods=["GET"]),
            Route(TRIAL + "/{side}.png", self.image, methods=["GET"]),
            Route(TRIAL + "/shown", self.shown, methods=["POST"]),
            Route(TRIAL + "/answer", self.answer, methods=["POST"]),
        ]

    async def study(self, request: Request) -> Response:
        """What a page has to know of the study; not its methods."""
        settings = self._study.settings
        return JSONResponse({
            "practice": settings.practice, "trials": settings.trials + settings.checks, "seconds": settings.seconds,
            "showing": settings.showing, "size": settings.size,
        })  # fmt: skip

    async def begin(self, request: Request) -> Response:
        """A new session."""
        await self._body(request, ())
        own = await run_in_threadpool(self._answers.join, self._study)
        return JSONResponse({"session": own, **await self._state(own)}, 201)

    async def session(self, request: Request) -> Response:
        """Where a session is."""
        return JSONResponse(await self._state(request.path_params["session"]))

    async def image(self, request: Request) -> Response:
        """One image of the pair that is to be shown; of no other, and not again."""
        place, side = _place(request), request.path_params["side"]
        if side not in ("left", "right"):
            raise Refusal(404, "there is no such image", "left.png and right.png are there")
        record = await run_in_threadpool(self._answers.current, request.path_params["session"])
        if record is None or record.place != place or record.shown is not None:
            raise Refusal(409, f"the images of trial {place} are not shown now", "GET the state of the session")
        return Response(await run_in_threadpool(self._image, record, side), media_type="image/png")

    async def shown(self, request: Request) -> Response:
        """How long the images of a pair were shown."""
        own, place = request.path_params["session"], _place(request)
        given = await self._body(request, ("left_ms", "right_ms", "size"))
        shown = Shown(*(_number(given, name) for name in ("left_ms", "right_ms", "size")))
        await run_in_threadpool(self._answers.show, own, place, shown)
        return JSONResponse(await self._state(own))

    async def answer(self, request: Request) -> Response:
        """Which image is taken for the fake one; in practice, where it was."""
        own, place = request.path_params["session"], _place(request)
        given = await self._body(request, ("fake", "ms"))
        side = given["fake"]
        if side != "left" and side != "right":
            raise Refusal(400, f"fake = {json.dumps(side)[:100]}", 'expected "left" or "right"')
        record = await run_in_threadpool(self._answers.answer, own, place, side, _number(given, "ms"))
        fake = record.trial.side if record.trial.kind == "practice" else None
        return JSONResponse({"fake": fake, **await self._state(own)})

    async def _state(self, own: str) -> dict[str, Any]:
        record = await run_in_threadpool(self._answers.current, own)
        if record is None:
            return {"place": None, "shown": False}
        return {"place": record.place, "shown": record.shown is not None}

    def _image(self, record: Record, side: str) -> bytes:
        trial = record.trial
        try:
            if side != trial.side:
                return self._study.image(None, trial.real).read_bytes()
            if trial.kind != "check":
                return self._study.image(record.method, trial.fake).read_bytes()
            with Image.open(self._study.image(None, trial.real)) as real:
                return png(noise(real.height, real.width, f"{self._study.settings.seed} {trial.fake}"))
        except OSError as error:
            raise busy(f"an image of the study cannot be read ({error.strerror or error})") from error

    async def _body(self, request: Request, names: tuple[str, ...]) -> Mapping[str, Any]:
        """The JSON of a request, an object with just these names; Refusal where it is not."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "the body is not JSON", "send Content-Type: application/json")
        try:
            async with body_of(request, LIMITS, self._budget) as body:
                given = json.loads(body)
        except Refusal as refusal:
            hint = "this path takes no more" if refusal.status == 413 else refusal.hint
            raise Refusal(refusal.status, refusal.error, hint, refusal.headers) from refusal
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "the body is not JSON", "send an object") from error
        if not isinstance(given, dict) or sorted(given) != sorted(names):
            raise Refusal(
                400, "the body is not what this path takes", f"send an object of {', '.join(names) or 'nothing'}"
            )
        return given


def _place(request: Request) -> int:
    text = request.path_params["place"]
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII):
        raise Refusal(404, "there is no such trial", "trials have numbers from 0 on")
    return int(text)


def _number(given: Mapping[str, Any], name: str) -> float:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_MS:
        raise Refusal(400, f"{name} = {json.dumps(value)[:100]}", f"expected a number from 0 to {LONGEST_MS:g}")
    assert math.isfinite(value)
    return float(value)
