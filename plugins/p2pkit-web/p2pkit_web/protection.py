"""What every request passes first: the right Host, no foreign Origin, a token where one is asked for; and headers."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pkit_web.answers import Refusal
from p2pkit_web.metrics import Metrics

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
"""Nothing from another host, nothing inline, no frames."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
MONTH = 30 * 24 * 3600


class Protection:
    """Refuses requests of other sites, to other hosts, or without the token, before anything of them is read.

    Without a ``token`` only the names of this machine itself are served (DNS rebinding brings other names); with one
    any name will do, since no other site has it. The token comes as ``Authorization: Bearer``, as the cookie that the
    page gets, or once in the address, ``/?token=``, which sets that cookie.
    """

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self._app, self._token, self._metrics = app, token, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                route = scope.get("route")
                path = getattr(route, "path", "other")
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            entry = self._checked(scope)
        except Refusal as refusal:
            await refusal.answer()(scope, receive, with_headers)
            return
        try:
            await (entry or self._app)(scope, receive, with_headers)
        except Exception:
            if not started:
                fault = Refusal(500, "a fault of the server, which has printed it", "report it to the authors")
                await fault.answer()(scope, receive, with_headers)
            raise  # uvicorn prints it

    def _checked(self, scope: Scope) -> Response | None:
        """Raise Refusal for what is not served; the answer where the token was in the address."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._token is None and _name(host) not in LOOPBACK:
            names = "http://127.0.0.1 or http://localhost, with its port"
            raise Refusal(421, f"this server is not {host[:100]!r}", f"use the address that it printed: {names}")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        page = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if foreign or (site not in ("same-origin", "none") and not page):
            raise Refusal(403, "the request comes from another site", "open the page of this server itself")
        if self._token is None or self._has_token(scope, headers, host):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._is_token(given):
            entry = RedirectResponse("/", 303)
            # "strict" would keep it from the page behind this answer where the link was on another site, in a mail say
            entry.set_cookie(_cookie(host), given, MONTH, httponly=True, samesite="lax")
            return entry
        raise Refusal(
            401, "the token is missing or wrong",
            "open the address that the server printed, or send the header Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    def _has_token(self, scope: Scope, headers: Headers, host: str) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_cookie(host))
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(host: str) -> str:
    """What the cookie is called: servers at several ports of a host share its cookies."""
    return f"p2pkit_{host.rpartition(':')[2] if host[-1:].isdigit() else 'token'}"
