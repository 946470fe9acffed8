"""The web application of a study."""

from __future__ import annotations

from starlette.applications import Starlette

from p2pkit_web.assembling import protected
from p2pkit_web.metrics import Metrics
from p2pkit_web.pages import Pages
from p2pkit_web.study.folder import Study
from p2pkit_web.study.routes import Sessions
from p2pkit_web.study.storage import Answers

HINTS = {404: "the page is at /"}


def application(study: Study, token: str | None = None) -> Starlette:
    """The application that holds a study; with a ``token`` for those alone who have it.

    Raises:
        P2PKitError: its answers cannot be written.
    """
    Answers(study.answers).prepare()
    return protected([*Pages("study.html").routes(), *Sessions(study).routes()], Metrics(), token, HINTS)
