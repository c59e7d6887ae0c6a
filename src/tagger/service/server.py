"""Serves a finished run: checks everything before it listens, and ends when a thread of it does."""

import gc
import logging
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from sqlalchemy import Connection

from tagger.data.tags import list_tags
from tagger.decision.decider import Decider, load_decider
from tagger.errors import UserError, describe_os_error, first_line
from tagger.models.base import Classifier, embedder_of
from tagger.runs import RunFolder, open_run
from tagger.service.app import build_app
from tagger.service.challenger import Challenger
from tagger.service.database import Store, only_user, open_store
from tagger.service.events import SERVICE, append, events_of
from tagger.service.inference import Inference
from tagger.service.keys import RedactKeys, has_keys, now_ms
from tagger.service.meaning import MeaningIndex, base_of
from tagger.service.readiness import Samples, differing_samples, stored_samples, version_of_run
from tagger.service.rollout import promoted_run
from tagger.service.service import Service
from tagger.service.settings import LOOPBACK, ServiceConfig
from tagger.service.writer import Writer

LOOK_SECONDS = 0.2
SWITCH_SECONDS = 0.0005
FAILED = 1


def serve(run: RunFolder, config: ServiceConfig) -> None:
    """Serve a run until the process is told to end.

    Args:
        run: A finished one.
        config: The settings.

    Raises:
        UserError: when it cannot be served so.
    """
    with ExitStack() as stack:
        listening = stack.enter_context(listen(config.host, config.port))
        check = stack.enter_context(only_user(config.store))
        store = open_store(config.store, create=True)
        stack.callback(store.close)
        with store.writing() as connection:
            check_store(connection, run, config)
            promoted = promoted_run(connection, version_of_run(run))
        if promoted is not None:
            print(f"{run.name} was replaced in a rollout: {promoted} is served", file=sys.stderr)
            run = open_run(promoted, str(Path(promoted).parent))
        decider = load_decider(run.path, run.load_classifier())
        samples = stored_samples(run)
        version = version_of_run(run)
        meaning = open_meaning(store, version, decider.classifier, config)
        writer = Writer(store, config.limits.queue, check)
        challenger = Challenger(store, writer, version, config.limits)
        challenger.follow()  # so that nothing is answered by the wrong run
        service = Service(
            run={"run": run.name, "version": version},
            tags=run.tags,
            config=config,
            store=store,
            inference=Inference(decider, config.limits.queue),
            writer=writer,
            meaning=meaning,
            challenger=challenger,
        )
        serve_until_told(service, decider, samples, listening)


def open_meaning(
    store: Store, version: str, classifier: Classifier, config: ServiceConfig
) -> MeaningIndex | None:
    """Open the index of meaning, and bring it up to date with the store; say how it stands."""
    embedder = embedder_of(classifier)
    if embedder is None:
        print("the run has no encoder: duplicates are found by their words alone", file=sys.stderr)
        return None
    meaning = MeaningIndex(base_of(store.url), version, embedder.vector_width)
    with store.reading() as connection:
        meaning.load(connection)
        added = meaning.catch_up(connection, embedder, config.limits.text_characters)
    print(f"index of meaning: {len(meaning)} items, {added} of them added now", file=sys.stderr)
    return meaning


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: when the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        reason = error.strerror or describe_os_error(error)
        raise UserError(
            f"cannot listen on {host}, port {port}: {reason}",
            hint="Choose another: --host, --port",
        ) from None


def check_store(connection: Connection, run: RunFolder, config: ServiceConfig) -> None:
    """Refuse a run that does not go with the store, and an open door.

    Raises:
        UserError: when the store is about other tags, or others could ask without a key.
    """
    if config.host not in LOOPBACK and not has_keys(connection):
        raise UserError(
            f"host {config.host}: other machines reach it, and the store has no keys",
            hint="Make one: tagger keys create --role admin; or listen on 127.0.0.1",
        )
    if config.review.people > 1 and not has_keys(connection):
        raise UserError(
            "review.people: 2 people can only be told apart by their keys, and the store has none",
            hint="Make one for each: tagger keys create --role review",
        )
    known = events_of(connection, SERVICE, "tags")
    if not known:
        append(connection, "tags", at=now_ms(), actor="-", item=SERVICE, data={"tags": run.tags})
    elif {*known[0].data["tags"]} != {*run.tags}:
        raise UserError(
            "the run has other tags than the store:",
            [f"run: {list_tags(run.tags)}", f"store: {list_tags(known[0].data['tags'])}"],
            "Serve a run with the store's tags, or give this one a store of its own.",
        )


def serve_until_told(
    service: Service, decider: Decider, samples: Samples, listening: socket.socket
) -> None:
    """Answer requests; end with exit code 1 where a thread of the service ends by itself."""
    for name in ("tagger.service", "uvicorn.error"):
        logging.getLogger(name).addFilter(RedactKeys())
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(service),
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=int(service.config.limits.deadline_seconds) + 1,
        )
    )
    host, port = listening.getsockname()[:2]
    ended = threading.Event()

    def watch() -> None:
        """Try the stored samples, then look after the two threads and the store."""
        try:
            service.differing = differing_samples(decider.classifier, samples)
        except Exception as error:
            service.differing = [f"they cannot be answered: {first_line(error)}"]
        for problem in service.differing:
            print(f"not ready: {problem}", file=sys.stderr, flush=True)
        if not service.differing:
            print(f"ready: http://{host}:{port}", file=sys.stderr, flush=True)
        while not ended.wait(LOOK_SECONDS):
            service.store.checkpoint()
            if service.dead:
                time.sleep(1)  # in which /healthz says so
                server.should_exit = server.force_exit = True
                return

    # Else uvicorn would let the signal by which it was ended kill the process before it is done.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    # A thread that computes lets the one that answers wait for this long, 5 ms by default.
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what was loaded stays: the collector need not look through it again
    service.inference.start()
    service.writer.start()
    if service.challenger is not None:
        service.challenger.start()
    threading.Thread(target=watch, daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        ended.set()
        dead = service.dead
        if service.challenger is not None:
            service.challenger.stop()
        for thread in (service.inference, service.writer):
            if thread.is_alive():
                thread.stop()
        if service.meaning is not None:
            service.meaning.save()  # by no other thread now
    if dead:
        print(f"error: a part of the service has ended: {', '.join(dead)}", file=sys.stderr)
        sys.exit(FAILED)
