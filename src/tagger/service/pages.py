"""Renders the pages of the service: published content, review, and who is signed in."""

import asyncio
import re
import secrets
import string
import time
from collections.abc import Callable
from functools import partial
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any

from fastapi import Form, Query, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ConfigDict
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse

from tagger.files import sha256_of
from tagger.service import bodies, content, review
from tagger.service.gate import CLIENT, check_rate
from tagger.service.hold import current_hold
from tagger.service.keys import Authentication, Client
from tagger.service.rates import RateLimit
from tagger.service.refusals import Refusal
from tagger.service.service import Service
from tagger.service.sessions import COOKIE, SESSION_SECONDS, make_session

FOLDER = Path(__file__).parent
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; img-src 'self' data:"
)
KEPT = {"cache-control": "public, max-age=31536000, immutable"}
PAGE_ITEMS = 20
KEYS = string.digits[1:] + "".join(sorted({*string.ascii_lowercase} - {*"dsu"}))
"""By which tags are chosen, in their order; `d`, `s` and `u` are duplicate, skip and undo."""
FEW_ANSWERS = 3
"""So many viewers are asked whether the tag of an item is right."""
VIEWER = "viewer"
VIEWER_PATTERN = re.compile("viewer-[0-9a-f]{32}")
VIEWER_SECONDS = 365 * 86_400
"""How long a viewer without a key is known by a cookie."""

ReviewField = Annotated[bodies.Number, Form(alias="review")]


class FeedbackForm(bodies.FeedbackIn):
    """What a viewer says of an item's tag, of which a form makes text."""

    model_config = ConfigDict(strict=False)


class LabelForm(bodies.LabelIn):
    """A person's label, and the review that it is of."""

    model_config = ConfigDict(strict=False)
    review: bodies.Number


class Pages:
    """The handlers of pages; each is about one address.

    Args:
        service: What they show, and change.
        authentication: Tells who looks at a page that is open to everybody.
    """

    def __init__(self, service: Service, authentication: Authentication) -> None:
        self.service = service
        self.authentication = authentication
        self.people = service.config.review
        self.reports = RateLimit(service.config.limits.viewer_reports_per_hour / 3_600, 3_600)
        self.files: dict[str, tuple[bytes, int, dict[str, str]]] = {}
        addresses = {}
        for file in sorted((FOLDER / "static").iterdir()):
            name = f"{file.stem}.{sha256_of(file)[:16]}{file.suffix}"
            kind = {"content-type": f"{guess_type(file.name)[0]}; charset=utf-8"}
            self.files[name] = (file.read_bytes(), 200, kind | KEPT)
            addresses[file.name] = f"/static/{name}"
        loader = FileSystemLoader(FOLDER / "templates")
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self.templates.trim_blocks = self.templates.lstrip_blocks = True
        self.templates.globals.update(static=addresses, tags=service.tags, keys=KEYS)
        self.templates.filters.update(cut=_cut, day=_day)

    async def send_file(self, name: str) -> Response:
        """Send a style sheet or a script; its name changes with what is in it."""
        if name not in self.files:
            raise Refusal(404, "there is no such file")
        return Response(*self.files[name])

    async def show_content(
        self,
        request: Request,
        tag: str = "",
        q: Annotated[bodies.Text, Query(max_length=200)] = "",
        cursor: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    ) -> Response:
        """Show the published items of a tag, the latest first; `q` is looked for in titles."""
        tag = tag or self.service.tags[0]
        self.service.check_tag(tag)
        client = await self._client(request)
        actor = client.id if client else _viewer(request)

        def look(connection: Connection) -> dict[str, Any]:
            page = content.list_published(connection, tag, cursor, PAGE_ITEMS, q)
            numbers = [item["item"] for item in page["items"]]
            answers, own = content.count_answers(connection, numbers, actor)
            asked = {item for item in numbers if answers[item] < FEW_ANSWERS} - own
            return page | {"asked": asked, "own": own, "hold": current_hold(connection)}

        return self._page("content", client, **await self.service.read(look), tag=tag, q=q)

    async def report(self, request: Request, said: Annotated[FeedbackForm, Form()]) -> Response:
        """Take what a viewer says of an item's tag, and show the same page again."""
        self.service.check_tag(said.tag)
        answer = _see(f"/?{request.url.query}#item-{said.item}")
        client = await self._client(request)
        actor = client.id if client else _viewer(request)
        if client is None:
            check_rate(self.reports, request.client.host if request.client else "-")
            actor = actor or f"viewer-{secrets.token_hex(16)}"
            self._keep(request, answer, VIEWER_SECONDS, viewer=actor)
        at = self.service.now()
        await self.service.write(partial(content.report_item, report=said, client=actor, at=at))
        return answer

    async def show_review(
        self, request: Request, labelled: Annotated[int, Query(ge=0, lt=2**63)] = 0
    ) -> Response:
        """Show the item that a person claimed last; the others that are theirs are hidden."""
        return await self._review(request, labelled=labelled, said="Labelled." if labelled else "")

    async def claim(self, request: Request, review_id: ReviewField | None = None) -> Response:
        """Claim the first item that is free, or this one."""
        work = partial(review.claim, review=review_id, lease_seconds=self.people.lease_seconds)
        return await self._act(request, work)

    async def label(self, request: Request, form: Annotated[LabelForm, Form()]) -> Response:
        """Label a claimed item, and show the next; a label that is not kept stays on the page."""
        self.service.check_tag(form.tag)
        work = partial(review.label, review=form.review, tag=form.tag, people=self.people.people)
        try:
            return await self._act(request, work, f"?labelled={form.review}")
        except Refusal as refusal:
            if refusal.status != 409:
                raise
            said = f"“{form.tag or 'duplicate'}” was not kept: {refusal.message}."
            return await self._review(request, 409, said=said, again=form.review)

    async def skip(self, request: Request, review_id: ReviewField) -> Response:
        """Give a claimed item back, and show the next."""
        return await self._act(request, partial(review.skip, review=review_id))

    async def undo(self, request: Request, review_id: ReviewField) -> Response:
        """Take one's own label back; the item is shown again."""
        work = partial(review.undo, review=review_id, lease_seconds=self.people.lease_seconds)
        return await self._act(request, work)

    async def _act(self, request: Request, work: Callable[..., Any], query: str = "") -> Response:
        """Do something in review, and claim the next item for a person who has none then."""
        who = {"client": request.scope[CLIENT].id, "at": self.service.now()}

        def act(connection: Connection) -> None:
            work(connection, **who)
            if not review.list_claimed(connection, **who):
                review.claim(connection, **who, lease_seconds=self.people.lease_seconds)

        await self.service.write(act)
        return _see(f"/review{query}")

    async def _review(
        self, request: Request, status: int = 200, *, said: str, labelled: int = 0, again: int = 0
    ) -> Response:
        client, at = request.scope[CLIENT], self.service.now()

        def look(connection: Connection) -> dict[str, Any]:
            mine = review.list_claimed(connection, client=client.id, at=at)
            return review.count_reviews(connection, at=at) | {"mine": mine}

        found = await self.service.read(look)
        more = {"at": at, "said": said, "done": labelled, "again": again}
        return self._page("review", client, status, **found, **more)

    async def show_session(self, request: Request) -> Response:
        """Show who is signed in, or ask for a key."""
        hold = await self.service.read(current_hold)
        return self._page("session", await self._client(request), hold=hold, said="")

    async def begin_session(
        self, request: Request, key: Annotated[str, Form(max_length=200)]
    ) -> Response:
        """Exchange a key for a cookie."""
        key = key.strip()
        client = await asyncio.to_thread(self.authentication.identify, f"Bearer {key}")
        answer = _see("/review" if client.role in {"review", "admin"} else "/")
        session = make_session(key, self.service.now())
        return self._keep(request, answer, SESSION_SECONDS, session=session)

    async def end_session(self, request: Request) -> Response:
        """Let a browser forget who is signed in."""
        return self._keep(request, _see("/session"), 0, session="")

    def show_refusal(self, refusal: Refusal) -> Response:
        """Show why something was not done, or ask for the key that it needs."""
        said = refusal.message if not refusal.problems else ""
        name = "session" if refusal.status == 401 else "problem"
        answer = self._page(name, None, refusal.status, hold=None, said=said, refusal=refusal)
        if refusal.retry_after is not None:
            answer.headers["retry-after"] = str(refusal.retry_after)
        return answer

    async def _client(self, request: Request) -> Client | None:
        """Return who asks; None for one without a key, where there are keys."""
        header = request.headers.get("authorization")
        session = request.cookies.get(COOKIE, "")
        try:
            return await asyncio.to_thread(self.authentication.identify, header, session)
        except Refusal:
            return None

    def _page(self, name: str, client: Client | None, status: int = 200, **values: Any) -> Response:
        text = self.templates.get_template(f"{name}.html.j2").render(client=client, **values)
        return HTMLResponse(text, status, {"content-security-policy": POLICY})

    def _keep(self, request: Request, answer: Response, seconds: int, **cookie: str) -> Response:
        """Let a browser keep a cookie for some seconds."""
        secure = self.service.config.https or request.url.scheme == "https"
        for name, value in cookie.items():
            answer.set_cookie(name, value, seconds, None, "/", None, secure, True, "strict")
        return answer


def _viewer(request: Request) -> str:
    """Return as whom a viewer without a key is known; "" where their browser has no cookie."""
    viewer = request.cookies.get(VIEWER, "")
    return viewer if VIEWER_PATTERN.fullmatch(viewer) else ""


def _see(address: str) -> Response:
    return RedirectResponse(address, 303)


def _cut(text: str, most: int) -> str:
    rest = len(text) - most
    return text if rest <= 0 else f"{text[:most]} … and {rest:,} more characters"


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at / 1_000))
