"""Does any request get an answer that the service's OpenAPI document does not describe?

    python benchmarks/fuzz_service.py --run RUN [--requests 10000]

schemathesis makes requests of the document, right and wrong ones, single and in sequences. The run
is served as a platform would serve it, with one key. Every answer is held to the document:
no server error, no status, kind of content or field that is not in it, no tag off the list (tags
are enumerated in it), no wrong request accepted (but for an empty field of a page's form, which is
one that was left out), no answer without the key. Of right requests it is not asked that they be
accepted: to JSON Schema 1.0 is an integer, and the service refuses it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.engine import Status, events, from_schema

from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.service.database import open_store
from tagger.service.keys import create_key

EXAMPLES = 60
"""Requests of each operation and phase, between two seeds."""
NO_CHECK = {"enabled": False}
SETTINGS = (
    "port: 0\nlimits: {requests_per_second: 1000000, requests_per_second_by_address: 1000000}\n"
)


@dataclass
class Fuzzed:
    """What became of the requests.

    Attributes:
        statuses: How many were answered with which status, by operation; None: not at all.
        failures: What was wrong, by check and operation, with the last request it was seen at.
    """

    statuses: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, recorder: Any) -> None:
        """Count what schemathesis recorded."""
        for case, interaction in recorder.interactions.items():
            response = interaction.response
            label = recorder.cases[case].value.operation.label
            self.statuses[label, response and response.status_code] += 1
        for checks in recorder.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    told = f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
                    self.failures[f"{check.name}, {recorder.label}"] = told


def configure(key: str, base_url: str, seed: int, examples: int) -> Any:
    """Return the settings of schemathesis."""
    return schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": base_url,
            "headers": {"Authorization": f"Bearer {key}"},
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "checks": {"positive_data_acceptance": NO_CHECK},
            "operations": [
                {"include-path-regex": "^/(?!v1)", "checks": {"negative_data_rejection": NO_CHECK}}
            ],
        }
    )


def fuzz(schema: Any, found: Fuzzed) -> None:
    """Ask everything that schemathesis thinks of, once."""
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                found.add(event.recorder)
            case events.NonFatalError():
                found.failures[f"error, {event.label}"] = str(event.value)
            case events.FatalError():
                raise event.exception
            case events.PhaseFinished(status=Status.ERROR):
                found.failures[f"error, {event.phase.name}"] = "the phase ended with an error"


@contextmanager
def served(run: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a run; yield the address and a key that may do everything."""
    store_url = f"sqlite:///{folder / 'store.db'}"
    with closing(open_store(store_url, create=True)) as store, store.writing() as connection:
        key = create_key(connection, "fuzz", "admin", None)
    settings = folder / "service.yaml"
    settings.write_text(SETTINGS, encoding="utf-8")
    command = [
        *(sys.executable, "-c", "from tagger.cli import main; main()", "serve", "--run", run),
        *("--config", str(settings), "--store", store_url),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        told = []
        for line in server.stderr:
            told.append(line)
            if ready := re.match(r"ready: (http://\S+)", line):
                break
        else:
            raise SystemExit("".join(told))
        try:
            yield ready[1], key
        finally:
            server.terminate()


@exit_on_user_error
def main() -> None:
    """Fuzz seed by seed until there were enough requests; exit with code 1 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/fuzz_service"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    found = Fuzzed()
    seed = options.seed
    with tempfile.TemporaryDirectory() as folder, served(options.run, Path(folder)) as (url, key):
        while found.statuses.total() < options.requests:
            config = configure(key, url, seed, EXAMPLES)
            fuzz(schemathesis.openapi.from_url(f"{url}/openapi.json", config=config), found)
            seed += 1
            print(f"seed {seed}: {found.statuses.total():,} requests", file=sys.stderr, flush=True)
    statuses: Counter[str] = Counter()
    for (_, status), count in found.statuses.items():
        statuses[str(status)] += count
    result = {
        "requests": found.statuses.total(),
        "seeds": seed - options.seed,
        "statuses": dict(sorted(statuses.items())),
        "operations_answered_200": sum(status == 200 for _, status in found.statuses),
        "failures": found.failures,
    }
    print(json.dumps(result, indent=2))
    write_json(options.out / "fuzz_service.json", result)
    sys.exit(bool(found.failures))


if __name__ == "__main__":
    main()
