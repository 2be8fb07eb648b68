"""The page and its server: read-only, without a file from elsewhere, behind a token when others can reach it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.fleet.watch import drawing
from edgeflock.runtime.fleet.watch.metrics import prometheus_text
from edgeflock.runtime.fleet.watch.view import Fleet, View, amount, duration

HERE = Path(__file__).parent
LOOK_S = 1.0
COOKIE = "edgeflock_watch"
LOGIN_BYTES = 4096
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_PAGES = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_PAGES.filters |= {"amount": amount, "duration": duration}
_PAGES.globals |= {"fleet_map": drawing.fleet_map, "spark": drawing.spark, "drawing": drawing}


def make_app(fleet: Fleet, replay: bool = False, token: str | None = None, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Application of ASGI.

    Parameters
    ----------
    fleet : Fleet
    replay : bool
        Show the rounds of the event logs, from the first one on, and not what goes on.
    token : str, optional
        Without it nothing is shown: as `Authorization: Bearer`, or by the page's form.
    hosts : sequence of str
        Names by which it may be asked. On loopback they keep a strange page from asking in the user's name (DNS
        rebinding).
    """

    def shown(request: Request) -> View:
        text = request.query_params.get("round", "1" if replay else "")
        return fleet.look(int(text) if text.isdecimal() and len(text) < 10 else None)

    def page(request: Request) -> Response:
        return HTMLResponse(_PAGES.get_template("page.html").render(view=shown(request), replay=replay))

    def view(request: Request) -> Response:
        return HTMLResponse(_render(shown(request)))

    def state(request: Request) -> Response:
        return JSONResponse(_plain(asdict(shown(request))))

    def metrics(request: Request) -> Response:
        return Response(prometheus_text(fleet.look()), media_type="text/plain; version=0.0.4")

    async def stream(request: Request) -> Response:
        return StreamingResponse(_events(fleet), media_type="text/event-stream")

    def asset(name: str, kind: str) -> Route:
        return Route(f"/{name}", lambda request: FileResponse(HERE / name, media_type=kind))

    routes = [
        Route("/", page),
        Route("/view", view),
        Route("/state.json", state),
        Route("/metrics", metrics),
        Route("/stream", stream),
        asset("style.css", "text/css"),
        asset("watch.js", "text/javascript"),
    ]
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)), Middleware(_Headers)]
    if token is not None:
        guards.append(Middleware(_Token, token=token))
        routes.append(Route("/login", _login(token), methods=["GET", "POST"]))
    return Starlette(routes=routes, middleware=guards, exception_handlers={EdgeflockError: _told})


def _told(request: Request, error: Exception) -> Response:
    return Response(str(error), 500, media_type="text/plain")


def _render(view: View) -> str:
    return _PAGES.get_template("view.html").render(view=view)


def _plain(value: Any) -> Any:
    """JSON has no NaN: None stands for it."""
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


async def _events(fleet: Fleet) -> AsyncIterator[str]:
    """The view whenever it changes, as server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""
    before = None
    while True:
        view = await run_in_threadpool(fleet.look)
        now = await run_in_threadpool(_render, view)
        if now != before:
            before = now
            yield "".join(f"data: {line}\n" for line in (str(view.newest), *now.splitlines())) + "\n"
        else:
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_S)


class _Headers:
    """Adds what keeps browsers strict to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)


class _Token:
    """Lets through who knows the token; everybody else sees the form, or 401 where no person asks."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ("/login", "/style.css") or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif "text/html" in Headers(scope=scope).get("accept", ""):
            await RedirectResponse("login", 303)(scope, receive, send)
        else:
            refusal = "expected the token, as 'Authorization: Bearer TOKEN'.\n"
            await Response(refusal, 401, {"WWW-Authenticate": "Bearer"}, "text/plain")(scope, receive, send)

    def _knows(self, asks: HTTPConnection) -> bool:
        kind, _, bearer = asks.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return _same(bearer.strip(), self._token)
        return _same(asks.cookies.get(COOKIE, ""), _session(self._token))


def _login(token: str) -> Any:
    async def login(request: Request) -> Response:
        wrong = False
        if request.method == "POST":
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > LOGIN_BYTES:
                    return Response("too long.\n", 413, media_type="text/plain")
            given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
            if _same(given.strip(), token):
                answer = RedirectResponse(".", 303)
                answer.set_cookie(COOKIE, _session(token), httponly=True, samesite="strict")
                return answer
            wrong = True
        return HTMLResponse(_PAGES.get_template("login.html").render(wrong=wrong), 403 if wrong else 200)

    return login


def _session(token: str) -> str:
    """What the cookie holds: the token itself stays out of the browser's store."""
    return hmac.new(token.encode(), b"edgeflock/fleet/watch/1", hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(given.encode(), expected.encode())
