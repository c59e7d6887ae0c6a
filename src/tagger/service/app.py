"""Builds the web application: what each address does, and who may ask for it."""

import hashlib
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Header, Query, Request, Response, Security
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.security import APIKeyCookie, HTTPBearer
from pydantic import TypeAdapter
from sqlalchemy import Connection, select
from starlette.responses import HTMLResponse, JSONResponse

from tagger.service import bodies, content, review
from tagger.service.challenger import group_of
from tagger.service.duplicates import Match, find_match
from tagger.service.gate import CLIENT, Gate
from tagger.service.keys import ROLES, Authentication, Role
from tagger.service.metrics import CONTENT_TYPE, Metrics
from tagger.service.openapi import complete
from tagger.service.pages import Pages
from tagger.service.refusals import Refusal
from tagger.service.service import Service
from tagger.service.sessions import COOKIE
from tagger.service.watched import GAUGES, gauge, last_watched
from tagger.service.writer import QueueFullError

OPEN: frozenset[Role] = frozenset()
SUBMITTERS: frozenset[Role] = frozenset({"submit", "admin"})
REVIEWERS: frozenset[Role] = frozenset({"review", "admin"})
VIEWERS: frozenset[Role] = frozenset({"read", "review", "admin"})
EVERYBODY: frozenset[Role] = frozenset(ROLES)

REFUSALS = {
    400: "the body cannot be read",
    401: "a valid key is missing",
    403: "the key's role may not do this, or the page that asks is of another site",
    404: "there is no such thing",
    405: "only other methods are possible here: see Allow",
    409: "it was done already, otherwise, or by another; or the lease has lapsed",
    413: "the body is too long",
    415: "the body is not declared as JSON",
    421: "the service is not called by this name",
    422: "a field is wrong",
    429: "too many requests, or too much waits: see Retry-After",
    503: "not ready, or the store does not answer; nothing was kept",
    504: "there was no answer in time",
}
TEXT = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
DONE = "done: what is now is shown at another address"
ReviewId = bodies.Number


class Api:
    """The handlers; each is about one address."""

    def __init__(self, service: Service) -> None:
        self.service = service
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "ready": ("Whether /readyz answers 200.", lambda: not self._unready()),
            "inference_waiting": ("Items that wait.", lambda: service.inference.waiting),
            "writer_waiting": ("Writes that wait.", lambda: service.writer.waiting),
            "reviews": ("Items in review.", lambda: self.counts["open"]),
            "labels": ("Labels that people gave.", lambda: self.counts["labelled"]),
            "rejections": ("Labels that reject an item.", lambda: self.counts["rejected"]),
            "label_kappa": ("Agreement of two people.", self._kappa),
            "hold": ("Whether publishing is stopped.", lambda: self.counts["hold"] is not None),
            "rollout_share": ("Items that the new run of a rollout decides on.", self._share),
        } | {name: (text, partial(self._watched, field)) for name, (text, field) in GAUGES.items()}
        self.metrics = Metrics(gauges)
        self.counts: dict[str, Any] = {}

    async def classify(self, body: bodies.ClassifyIn) -> Response:
        """Classify items; nothing is written."""
        service = self.service
        service.check_count(body.items)
        predictions = await service.classify(body.items)
        items = [
            {
                "id": item.id,
                "decision": one.published or content.NEEDS_REVIEW,
                "tag": one.tag,
                "probabilities": one.probabilities,
                "reason": one.reason,
                "truncated": service.truncated(item),
            }
            for item, one in zip(body.items, predictions, strict=True)
        ]
        return _json(service.run | {"items": items})

    async def submit(
        self,
        body: bodies.SubmitIn,
        request: Request,
        idempotency_key: Annotated[bodies.Name, Header(examples=["arxiv:1234"])],
    ) -> Response:
        """Keep items, and publish those that are certain and new.

        The answer comes when they are on disk. The same request with the same Idempotency-Key gets
        the first answer again.
        """
        service = self.service
        service.check_count(body.items)
        for item in body.items:
            service.check_tag(item.suggested_tag)
        client = request.scope[CLIENT].id
        digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        asked = content.Asked(client, idempotency_key, digest, service.now())

        limits = service.config.duplicates

        def look(connection: Connection) -> str | tuple[int, list[Match | None], list[int] | None]:
            answer, seen = content.find_answer(connection, asked)
            if answer is not None:
                return answer
            matches = [find_match(connection, one.title, one.description) for one in body.items]
            if not service.compares:
                return seen, matches, None
            both = zip(body.items, matches, strict=True)
            return seen, matches, [group_of(connection, *one, limits.likely) for one in both]

        found = await service.read(look)
        if isinstance(found, str):
            return _json(found)
        seen, matches, groups = found
        known = [match is not None and match.is_certain(limits.certain) for match in matches]
        new = [at for at, same in enumerate(known) if not same]
        of_new = None if groups is None else [groups[at] for at in new]
        answers = iter(await service.answer([body.items[at] for at in new], of_new))
        rate = service.config.review.sample
        submissions = [
            content.Submission(
                item,
                service.truncated(item),
                prediction,
                match,
                seen,
                rate if service.draw() < rate else None,
                answered,
            )
            for item, same, match in zip(body.items, known, matches, strict=True)
            for prediction, answered in [(None, None) if same else next(answers)]
        ]
        meaning = service.meaning

        def learn(answer: str) -> None:
            said = json.loads(answer)["items"]
            kept = {
                one["item"]: submission.prediction.vector
                for one, submission in zip(said, submissions, strict=True)
                if one["decision"] != "duplicate" and submission.prediction is not None
            }
            if meaning is not None and kept:
                meaning.add([*kept], np.array([*kept.values()]), last=max(kept))

        answer = await service.write(
            lambda connection: content.submit_items(
                connection,
                submissions,
                asked,
                service.run,
                service.config.duplicates,
                meaning=meaning,
            ),
            learn,
        )
        for said in json.loads(answer)["items"]:
            self.metrics.items.labels(said["decision"]).inc()
        return _json(answer)

    async def report(self, body: bodies.FeedbackIn, request: Request) -> Response:
        """Report that the tag of an item is wrong, so that a person looks at it; or is right."""
        self.service.check_tag(body.tag)
        work = partial(content.report_item, report=body, **self._who(request))
        return _json(await self.service.write(work))

    async def list_content(
        self,
        tag: Annotated[bodies.Tag, Query()],
        cursor: Annotated[bodies.Number | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        q: Annotated[bodies.Text, Query(max_length=200)] = "",
    ) -> Response:
        """List the published items of a tag, the latest first; `q` is looked for in titles."""
        self.service.check_tag(tag)
        work = partial(content.list_published, tag=tag, before=cursor, limit=limit, q=q)
        return _json(await self.service.read(work))

    async def list_reviews(self) -> Response:
        """Show the queue of items that need a person."""
        at = self.service.now()
        return _json(await self.service.read(partial(review.list_reviews, at=at)))

    async def claim(self, request: Request) -> Response:
        """Claim the first free item: nobody else is given it until the lease ends."""
        lease = self.service.config.review.lease_seconds
        work = partial(review.claim, **self._who(request), lease_seconds=lease)
        work = partial(work, meaning=self.service.meaning)
        return _json({"review": await self.service.write(work)})

    async def label(self, review_id: ReviewId, body: bodies.LabelIn, request: Request) -> Response:
        """Label a claimed item: it is published under the tag, linked as a duplicate, or rejected.

        Where two people label each item, that is done when two agree, or a third has decided.
        """
        self.service.check_tag(body.tag)
        people = self.service.config.review.people
        work = partial(review.label, review=review_id, tag=body.label, people=people)
        work = partial(work, **self._who(request))
        return _json(await self.service.write(work))

    async def skip(self, review_id: ReviewId, request: Request) -> Response:
        """Give a claimed item back, to the end of the queue."""
        work = partial(review.skip, review=review_id, **self._who(request))
        return _json(await self.service.write(work))

    async def undo(self, review_id: ReviewId, request: Request) -> Response:
        """Take one's own label back, and claim the item again."""
        lease = self.service.config.review.lease_seconds
        work = partial(review.undo, review=review_id, **self._who(request), lease_seconds=lease)
        work = partial(work, meaning=self.service.meaning)
        return _json({"review": await self.service.write(work)})

    async def health(self) -> Response:
        """Say whether the process works; where not, it is to be started again."""
        self.service.check_alive()
        return _json({"status": "ok"})

    async def ready(self) -> Response:
        """Say whether requests will be answered: the run's stored samples were, as they should."""
        if problem := self._unready():
            raise Refusal(503, problem, self.service.differing or (), retry_after=1)
        await self.service.read(lambda connection: connection.execute(select(1)))
        return _json({"status": "ready"} | self.service.run)

    async def show_metrics(self) -> Response:
        """Show figures for Prometheus."""
        work = partial(review.count_reviews, at=self.service.now())
        self.counts = await self.service.read(
            lambda connection: work(connection) | {"watched": last_watched(connection)}
        )
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    def _watched(self, field: str) -> float:
        return gauge(self.counts["watched"], field)

    def _kappa(self) -> float:
        kappa = self.counts["agreement"]["kappa"]
        return math.nan if kappa is None else float(kappa)

    def _share(self) -> float:
        challenger = self.service.challenger
        status = None if challenger is None else challenger.status
        return math.nan if status is None or status.rollout.ended else status.rollout.share

    def _who(self, request: Request) -> dict[str, Any]:
        return {"client": request.scope[CLIENT].id, "at": self.service.now()}

    def _unready(self) -> str:
        if self.service.dead:
            return f"a part of the service has ended: {', '.join(self.service.dead)}"
        if self.service.differing is None:
            return "the run's stored samples are being tried"
        if self.service.differing:
            return "this machine answers stored samples otherwise than they were recorded"
        return ""


def build_app(service: Service) -> Gate:
    """Build the application, and the gate before it."""
    api = Api(service)
    pages = Pages(service, Authentication(service.store))
    # No pages of documentation: they would load scripts from elsewhere.
    app = FastAPI(title="tagger", version=service.run["version"], docs_url=None, redoc_url=None)
    rules: dict[tuple[str, str], frozenset[Role]] = {("GET", "/openapi.json"): OPEN}
    at_review = "/v1/review/{review_id}"
    viewers = OPEN if service.config.public else EVERYBODY
    routes: list[tuple[str, str, Any, frozenset[Role], Any]] = [
        ("POST", "/v1/classify", api.classify, SUBMITTERS, bodies.ClassifyOut),
        ("POST", "/v1/items", api.submit, SUBMITTERS, bodies.SubmitOut),
        ("POST", "/v1/feedback", api.report, EVERYBODY, bodies.FeedbackOut),
        ("GET", "/v1/content", api.list_content, VIEWERS, bodies.ContentOut),
        ("GET", "/v1/review", api.list_reviews, REVIEWERS, bodies.ReviewsOut),
        ("POST", "/v1/review/claim", api.claim, REVIEWERS, bodies.ClaimOut),
        ("POST", f"{at_review}/label", api.label, REVIEWERS, bodies.LabelOut),
        ("POST", f"{at_review}/skip", api.skip, REVIEWERS, bodies.OfReview),
        ("POST", f"{at_review}/undo", api.undo, REVIEWERS, bodies.ClaimOut),
        ("GET", "/metrics", api.show_metrics, frozenset({"read", "admin"}), None),
        ("GET", "/healthz", api.health, OPEN, bodies.State),
        ("GET", "/readyz", api.ready, OPEN, bodies.State),
        ("GET", "/", pages.show_content, viewers, HTMLResponse),
        ("POST", "/", pages.report, viewers, HTMLResponse),
        ("GET", "/review", pages.show_review, REVIEWERS, HTMLResponse),
        ("POST", "/review/{action}", pages.act, REVIEWERS, HTMLResponse),
        ("GET", "/rollout", pages.show_rollout, frozenset({"read", "admin"}), HTMLResponse),
        ("GET", "/session", pages.show_session, OPEN, HTMLResponse),
        ("POST", "/session", pages.begin_session, OPEN, HTMLResponse),
        ("POST", "/session/end", pages.end_session, OPEN, HTMLResponse),
        ("GET", "/static/{name}", pages.send_file, OPEN, HTMLResponse),
    ]
    known_by = (HTTPBearer(auto_error=False), APIKeyCookie(name=COOKIE, auto_error=False))
    for method, path, handler, roles, answer in routes:
        rules[method, path] = roles
        is_page = answer is HTMLResponse
        model = {} if is_page else {"model": bodies.Problem}
        app.add_api_route(
            path,
            handler,
            methods=[method],
            response_model=None if is_page else answer,
            response_class=HTMLResponse if is_page else JSONResponse if answer else Response,
            responses={
                status: {"description": text} | model
                for status, text in (REFUSALS | ({303: DONE} if is_page else {})).items()
            }
            | ({} if answer else TEXT),
            dependencies=[Security(one) for one in known_by] if roles else [],
            openapi_extra={"x-roles": sorted(roles)},
        )
    describe = app.openapi
    app.openapi = lambda: complete(describe(), service.tags, service.config.limits.items)

    # The gate answers for whatever is raised: what usually stands in between is not needed.
    app.middleware_stack = AsyncExitStackMiddleware(app.router)
    names = TypeAdapter[str](bodies.Name)

    async def classify(request: Request, raw: bytes) -> Response | None:
        service.check_alive()
        if service.inference.is_late():
            raise QueueFullError
        try:
            body = bodies.ClassifyIn.model_validate(json.loads(raw))
        except (ValueError, RecursionError):
            return None
        return await api.classify(body)

    async def submit(request: Request, raw: bytes) -> Response | None:
        try:
            body = bodies.SubmitIn.model_validate(json.loads(raw))
            key = names.validate_python(request.headers.get("idempotency-key"))
        except (ValueError, RecursionError):
            return None
        return await api.submit(body, request, key)

    return Gate(
        app,
        routes=app.router.routes,
        rules=rules,
        config=service.config,
        authentication=pages.authentication,
        metrics=api.metrics,
        show=pages.show_refusal,
        shortcuts={"/v1/classify": classify, "/v1/items": submit},
    )


def _json(value: Any) -> Response:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Response(text.encode(), media_type="application/json")
