"""Where units of work are done: in this process, or on a cluster of Ray.

Of Ray it is the tasks that are used, each of which is a unit that may be done twice with the same
result. One that dies with its worker or its machine is started again elsewhere.
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from tagger.batch.plan import BatchPlan, Place, Unit
from tagger.batch.units import answer_unit
from tagger.decision.decider import Decider, load_decider
from tagger.errors import UserError
from tagger.runs import RunFolder

TRIES = 4
AHEAD = 2
"""Tasks given to the cluster beyond those that run, so that no worker waits for the next one."""


def work_here(
    run: RunFolder, plan: BatchPlan, units: Sequence[Unit], source: Place, target: Place
) -> Iterator[int]:
    """Do all units one after the other, and yield how many rows each had."""
    decider = load_decider(run.path, run.load_classifier())
    for unit in units:
        yield answer_unit(plan, unit, source, target, decider)


def work_on_ray(
    run: RunFolder, plan: BatchPlan, units: Sequence[Unit], source: Place, target: Place,
    *, workers: int | None,
) -> Iterator[int]:  # fmt: skip
    """Do units side by side on Ray, and yield how many rows each had as it is finished.

    The run itself goes to the workers. Both folders must be what they are here on every machine of
    the cluster: addresses of an object store, or folders that all of them share.

    Args:
        run: What to predict with.
        plan: What is predicted.
        units: Those of it that are still to be done.
        source: Folder of the input.
        target: Folder of the output.
        workers: How many processes of a cluster that is started for this, one core each; None:
            the cluster that RAY_ADDRESS names, or else one of all cores.

    Raises:
        UserError: when Ray is not installed, a file cannot be read, or a unit's worker dies again
            and again.
    """
    # Ray would tell its makers of each start.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "--engine ray needs the package ray, which is not installed",
            hint="Install it: pip install -r requirements-ray.txt -c constraints.txt",
        ) from None
    try:
        ray.init(num_cpus=workers, include_dashboard=False, logging_level="warning")
    except (ConnectionError, ValueError) as error:
        raise UserError(f"no cluster of Ray could be reached: {error}") from None
    try:
        given = [ray.put(one) for one in (pack_run(run), plan, source, target)]
        work = ray.remote(_work_in_worker).options(num_cpus=1, max_retries=TRIES - 1)
        waiting = iter(units)
        cores = int(ray.cluster_resources().get("CPU", 1))
        running = {work.remote(*given, one): one for one in islice(waiting, cores + AHEAD)}
        while running:
            (done,), _ = ray.wait([*running], num_returns=1)
            unit = running.pop(done)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"{unit.file}, row group {unit.group}: its worker failed {TRIES} times",
                    [str(error).strip().splitlines()[-1]],
                    "What is finished is kept: the same command goes on. A worker that dies often "
                    "lacks memory: write the file in smaller row groups, or use fewer --workers.",
                ) from None
            if isinstance(outcome, UserError):
                raise outcome
            yield outcome
            for one in islice(waiting, 1):
                running[work.remote(*given, one)] = one
    finally:
        ray.shutdown()


def pack_run(run: RunFolder) -> bytes:
    """Return what predictions need of a run as one archive."""
    packed = io.BytesIO()
    names = ["meta.json", "config.yaml", "decision.json", "ood.safetensors"]
    paths = [run.path / name for name in names]
    paths += sorted(path for path in (run.path / "model").rglob("*") if path.is_file())
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            if path.exists():
                archive.write(path, path.relative_to(run.path))
    return packed.getvalue()


@lru_cache(maxsize=1)
def unpacked_decider(packed: bytes) -> Decider:
    """Load the run in an archive; a worker that is asked again has it already."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(packed)).extractall(folder)
        run = RunFolder(Path(folder))
        return load_decider(run.path, run.load_classifier())


def _work_in_worker(
    packed: bytes, plan: BatchPlan, source: Place, target: Place, unit: Unit
) -> int | UserError:
    """Do a unit; what the user can mend comes back as a value, without Ray's own words."""
    try:
        return answer_unit(plan, unit, source, target, unpacked_decider(packed))
    except UserError as error:
        return error
