"""Lets through what may pass: the right host, a known key, a role, a size, a rate, a deadline."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match

from tagger.service.database import StoreUnavailableError
from tagger.service.keys import Authentication, Client, Role
from tagger.service.metrics import Metrics
from tagger.service.rates import RateLimit
from tagger.service.refusals import Refusal
from tagger.service.sessions import COOKIE
from tagger.service.settings import ServiceConfig
from tagger.service.writer import QueueFullError

Rules = Mapping[tuple[str, str], frozenset[Role]]
"""By method and path: the roles that may. With none of them: whoever asks, without a key."""

CLIENT = "tagger.client"
"""Under which the scope of a request holds who asks."""

HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
]
"""Of every answer that does not say otherwise."""
MOST_PROBLEMS = 20
log = logging.getLogger("tagger.service")

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Shortcut = Callable[[Request, bytes], Awaitable[Response | None]]
"""Answers a request with this body; None where something is wrong, which the app explains."""


@dataclass
class Gate:
    """ASGI application before another: a request is refused for the first reason of a fixed order.

    Attributes:
        app: What is behind it.
        routes: Of the app; one without a rule is open to nobody.
        rules: Who may.
        config: The service's.
        authentication: Tells who asks.
        metrics: Where requests are counted.
        show: Makes the page of a refusal, for those who ask for one.
        shortcuts: By path: ways past the app, which takes longer than a small model does.
    """

    app: FastAPI
    routes: list[BaseRoute]
    rules: Rules
    config: ServiceConfig
    authentication: Authentication
    metrics: Metrics
    show: Callable[[Refusal], Response]
    shortcuts: Mapping[str, Shortcut]

    def __post_init__(self) -> None:
        self.limits = self.config.limits
        self.hosts = {host.lower() for host in self.config.hosts}
        self.by_key = RateLimit(self.limits.requests_per_second)
        self.by_address = RateLimit(self.limits.requests_per_second_by_address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by its deadline at the latest."""
        if scope["type"] != "http":
            return  # the start and the end of the server, of which nobody needs to be told
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                message["headers"] += [header for header in HEADERS if header[0] not in given]
            await send(message)

        try:
            async with asyncio.timeout(self.limits.deadline_seconds):
                await self._pass(scope, receive, sending)
        except Exception as error:
            if not status:
                await self._answer(_refusal(error), scope)(scope, receive, sending)
        path = scope.get("tagger.path", "-")
        self.metrics.count(path, scope["method"], status, time.perf_counter() - began)

    def _answer(self, refusal: Refusal, scope: Scope) -> Response:
        """Return a refusal as a page to those who ask for one, else as JSON."""
        if b"text/html" in dict(scope["headers"]).get(b"accept", b""):
            answer = self.show(refusal)
        else:
            body = {"error": refusal.message, "problems": refusal.problems}
            answer = JSONResponse(body, refusal.status)
        if refusal.retry_after is not None:
            answer.headers["retry-after"] = str(refusal.retry_after)
        if refusal.allow:
            answer.headers["allow"] = ", ".join(refusal.allow)
        if refusal.status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        return answer

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        host = headers.get(b"host", "").lower()
        if host.rpartition(":")[0] not in self.hosts and host not in self.hosts:
            raise Refusal(
                421, "the service is not called by this name: see `hosts` in its settings"
            )
        check_rate(self.by_address, str((scope.get("client") or ["-"])[0]))
        path = self._find_route(scope)
        roles = self.rules.get((method, path))
        if roles is None:
            raise Refusal(403, "nobody may do this")
        if method != "GET":
            _check_origin(headers, host)
        if roles:
            scope[CLIENT] = await self._identify(headers, roles)
        answer: Response | None = None
        if method != "GET":
            form = "json" if path.startswith("/v1/") else "x-www-form-urlencoded"
            body = await self._read(headers, receive, f"application/{form}")
            if shortcut := self.shortcuts.get(path):
                answer = await shortcut(Request(scope), body)
            receive = _giving(body, receive)
        await (answer or self.app)(scope, receive, send)

    def _find_route(self, scope: Scope) -> str:
        """Return the path, as it stands in the OpenAPI document, of the route of a request."""
        possible: set[str] = set()
        for route in self.routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                scope["tagger.path"] = path = str(route.path)
                return path
            if match is Match.PARTIAL:
                possible |= route.methods
        if possible:
            raise Refusal(405, f"{scope['method']} is not possible here", allow=sorted(possible))
        raise Refusal(404, "there is nothing at this address")

    async def _identify(self, headers: Mapping[bytes, str], roles: frozenset[Role]) -> Client:
        header = headers.get(b"authorization")
        session = cookie_parser(headers.get(b"cookie", "")).get(COOKIE, "")
        if self.authentication.known(header, session):
            client = self.authentication.identify(header, session)
        else:
            client = await asyncio.to_thread(self.authentication.identify, header, session)
        if client.role not in roles:
            needed = " or ".join(sorted(roles))
            raise Refusal(403, f"a key of the role {client.role} may not do this, {needed} may")
        check_rate(self.by_key, client.id)
        return client

    async def _read(self, headers: Mapping[bytes, str], receive: Receive, kind: str) -> bytes:
        """Read a body of a kind."""
        most = self.limits.body_bytes
        whole = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "the connection was closed before the body was whole")
            whole += message.get("body", b"")
            if len(whole) > most:
                raise Refusal(413, f"the body is longer than {most:,} bytes")
            more = message.get("more_body", False)
        sent = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if whole and (sent != kind or b"content-encoding" in headers):
            raise Refusal(415, f"expected Content-Type: {kind}, not compressed")
        return bytes(whole)


def _giving(body: bytes, receive: Receive) -> Receive:
    """Return a function that gives the app a body that was read, then what follows it."""
    first: list[Message] = [{"type": "http.request", "body": body}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def check_rate(limit: RateLimit, name: str) -> None:
    """Count a request, or refuse it."""
    if wait := limit.wait(name):
        raise Refusal(429, "too many requests", retry_after=wait)


def _check_origin(headers: Mapping[bytes, str], host: str) -> None:
    """Refuse what a page of another site lets a browser send."""
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    if site is not None:
        same = site in {"same-origin", "none"}
    else:
        same = origin is None or origin.partition("://")[2].lower() == host
    if not same:
        raise Refusal(403, "pages of other sites may not do this")


def _refusal(error: Exception) -> Refusal:
    match error:
        case Refusal():
            return error
        case RequestValidationError() | HTTPException():
            return _refused(error)
        case TimeoutError():
            return Refusal(504, "there was no answer in time", retry_after=1)
        case QueueFullError():
            return Refusal(429, "too much waits already", retry_after=1)
        case StoreUnavailableError():
            log.error("%s", error)
            return Refusal(503, "the store does not answer: nothing was kept", retry_after=1)
    log.error("a request failed", exc_info=error)
    return Refusal(500, "this is a defect of the service, which its log describes")


def _refused(error: Exception) -> Refusal:
    """Say what is wrong with a request, without repeating it."""
    details = error.errors() if isinstance(error, RequestValidationError) else []
    if not details or any(detail["type"] == "json_invalid" for detail in details):
        return Refusal(400, "the body cannot be read")
    problems = [
        f"{('.'.join(map(str, detail['loc'][1:])) or detail['loc'][0])[:80]}: {detail['msg']}"
        for detail in details[:MOST_PROBLEMS]
    ]
    if more := len(details) - len(problems):
        problems.append(f"and {more:,} more")
    return Refusal(422, "the request is not as it should be", problems)
