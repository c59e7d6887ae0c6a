"""Renders the pages of the service: published content, review, and who is signed in."""

import asyncio
import re
import secrets
import string
from collections import Counter
from collections.abc import Callable
from functools import partial
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Form, Query, Request, Response
from pydantic import ConfigDict
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse

from tagger.files import sha256_of
from tagger.reporting.html import templates_in
from tagger.service import bodies, content, review
from tagger.service.gate import CLIENT, check_rate
from tagger.service.hold import current_hold
from tagger.service.keys import Authentication, Client, shown_time
from tagger.service.rates import RateLimit
from tagger.service.refusals import Refusal
from tagger.service.rollout import list_published, read_history
from tagger.service.rollout_commands import describe_evidence
from tagger.service.service import Service
from tagger.service.sessions import COOKIE, SESSION_SECONDS, make_session
from tagger.service.watched import last_watched

FOLDER = Path(__file__).parent
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; img-src 'self' data:"
)
KEPT = {"cache-control": "public, max-age=31536000, immutable"}
PAGE_ITEMS = 20
KEYS = string.digits[1:] + "".join(sorted({*string.ascii_lowercase} - {*"drsu"}))
"""By which tags are chosen, in their order; `d`, `r`, `s`, `u`: duplicate, reject, skip, undo."""
FEW_ANSWERS = 3
"""So many viewers are asked whether the tag of an item is right."""
VIEWER = "viewer"
VIEWER_PATTERN = re.compile("viewer-[0-9a-f]{32}")
VIEWER_SECONDS = 365 * 86_400

Action = Literal["claim", "label", "skip", "undo"]


class FeedbackForm(bodies.FeedbackIn):
    """What a viewer says of an item's tag, of which a form makes text."""

    model_config = ConfigDict(strict=False)


class ReviewForm(bodies.Verdict):
    """What is to be done with which review; a label has one verdict."""

    model_config = ConfigDict(strict=False)
    review: bodies.Number | None = None


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
        self.templates = templates_in(FOLDER / "templates")
        self.templates.globals.update(static=addresses, tags=service.tags, keys=KEYS)
        self.templates.filters["time"] = shown_time

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
        client, actor = await self._identify(request)

        def look(connection: Connection) -> dict[str, Any]:
            page = content.list_published(connection, tag, cursor, PAGE_ITEMS, q)
            numbers = [item["item"] for item in page["items"]]
            said = content.list_answers(connection, numbers)
            own = {item for item, viewer in said if viewer == actor}
            answers = Counter(item for item, _ in said)
            asked = {item for item in numbers if answers[item] < FEW_ANSWERS} - own
            return page | {"asked": asked, "own": own, "hold": current_hold(connection)}

        return self._page("content", client, **await self.service.read(look), tag=tag, q=q)

    async def report(self, request: Request, said: Annotated[FeedbackForm, Form()]) -> Response:
        """Take what a viewer says of an item's tag, and show the same page again."""
        self.service.check_tag(said.tag)
        answer = RedirectResponse(f"/?{request.url.query}#item-{said.item}", 303)
        client, actor = await self._identify(request)
        if client is None:
            check_rate(self.reports, request.client.host if request.client else "-")
            actor = actor or f"viewer-{secrets.token_hex(16)}"
            answer.set_cookie(VIEWER, actor, **self._cookie(request, VIEWER_SECONDS))
        at = self.service.now()
        await self.service.write(partial(content.report_item, report=said, client=actor, at=at))
        return answer

    async def show_review(self, request: Request, done: int = 0) -> Response:
        """Show the item that a person claimed last; the others that are theirs are hidden."""
        return await self._review(request, said="", done=done, again=0)

    async def act(
        self, request: Request, action: Action, form: Annotated[ReviewForm, Form()]
    ) -> Response:
        """Claim, label, skip or undo; then show the item that is the person's, or the next one.

        A label that is not kept stays on the page.
        """
        if action == "label" and form.count != 1:
            raise Refusal(422, "choose either a tag, or duplicate, or reject")
        self.service.check_tag(form.tag)
        who = {"client": request.scope[CLIENT].id, "at": self.service.now()}
        lease = self.people.lease_seconds
        acts: dict[Action, Callable[..., Any]] = {
            "claim": partial(review.claim, lease_seconds=lease),
            "label": partial(review.label, tag=form.label, people=self.people.people),
            "skip": review.skip,
            "undo": partial(review.undo, lease_seconds=lease),
        }

        def work(connection: Connection) -> None:
            acts[action](connection, review=form.review, **who)
            if not review.list_claimed(connection, **who):
                acts["claim"](connection, **who)

        try:
            await self.service.write(work)
        except Refusal as refusal:
            if refusal.status != 409:
                raise
            said = f"“{form.tag or action}” was not kept: {refusal.message}."
            return await self._review(request, 409, said=said, done=0, again=form.review)
        done = f"?done={form.review}" if action == "label" else ""
        return RedirectResponse(f"/review{done}", 303)

    async def _review(self, request: Request, status: int = 200, **more: Any) -> Response:
        client, at = request.scope[CLIENT], self.service.now()

        def look(connection: Connection) -> dict[str, Any]:
            meaning = self.service.meaning
            mine = review.list_claimed(connection, client=client.id, at=at, meaning=meaning)
            watched = last_watched(connection)
            counts = review.count_reviews(connection, at=at)
            return counts | {"mine": mine, "at": at, "watched": watched}

        return self._page("review", client, status, **await self.service.read(look), **more)

    async def show_session(self, request: Request) -> Response:
        """Show who is signed in, or ask for a key."""
        client, _ = await self._identify(request)
        hold = await self.service.read(current_hold)
        return self._page("session", client, hold=hold, said="")

    async def begin_session(
        self, request: Request, key: Annotated[str, Form(max_length=200)]
    ) -> Response:
        """Exchange a key for a cookie."""
        client = await asyncio.to_thread(self.authentication.identify, f"Bearer {key.strip()}")
        answer = RedirectResponse("/review" if client.role in {"review", "admin"} else "/", 303)
        session = make_session(key.strip(), self.service.now())
        answer.set_cookie(COOKIE, session, **self._cookie(request, SESSION_SECONDS))
        return answer

    async def end_session(self, request: Request) -> Response:
        """Let a browser forget who is signed in."""
        answer = RedirectResponse("/session", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def show_rollout(self, request: Request) -> Response:
        """Show the last rollout: stages, evidence, decisions, the card of the new run."""
        challenger = self.service.challenger
        status = None if challenger is None else challenger.status

        def look(connection: Connection) -> dict[str, Any]:
            found: dict[str, Any] = {"history": [], "left": 0, "evidence": []}
            if status is not None:
                rollout = status.rollout
                found["history"] = read_history(connection, rollout)
                found["evidence"] = describe_evidence(rollout, status.evidence)
                if rollout.ended in ("rolled back", "aborted"):
                    found["left"] = len(list_published(connection, rollout))
            return found | {"hold": current_hold(connection)}

        client = request.scope[CLIENT]
        return self._page("rollout", client, **await self.service.read(look), shown=status)

    def show_refusal(self, refusal: Refusal) -> Response:
        """Show why something was not done, or ask for the key that it needs."""
        name = "session" if refusal.status == 401 else "problem"
        more = {"hold": None, "said": refusal.message, "refusal": refusal}
        return self._page(name, None, refusal.status, **more)

    async def _identify(self, request: Request) -> tuple[Client | None, str]:
        """Return who asks, None without a key where there are keys, and their name in events."""
        header, session = request.headers.get("authorization"), request.cookies.get(COOKIE, "")
        try:
            client = await asyncio.to_thread(self.authentication.identify, header, session)
        except Refusal:
            viewer = request.cookies.get(VIEWER, "")
            return None, viewer if VIEWER_PATTERN.fullmatch(viewer) else ""
        return client, client.id

    def _page(self, name: str, client: Client | None, status: int = 200, **values: Any) -> Response:
        text = self.templates.get_template(f"{name}.html.j2").render(client=client, **values)
        return HTMLResponse(text, status, {"content-security-policy": POLICY})

    def _cookie(self, request: Request, seconds: int) -> dict[str, Any]:
        """Return how a browser is to keep a cookie."""
        secure = self.service.config.https or request.url.scheme == "https"
        return {"max_age": seconds, "secure": secure, "httponly": True, "samesite": "strict"}
