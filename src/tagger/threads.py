"""Sets the number of threads of a process, and how idle ones wait."""

import os
import re
import statistics
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""How long an idle thread of OpenMP spins before it sleeps: turns of a loop for GNU's library,
which torch brings on Linux, milliseconds for LLVM's and Intel's, which it brings on macOS and
Windows. By default they spin for milliseconds and 200 ms, and so take the core that another process
could compute on."""

CGROUPS = Path("/sys/fs/cgroup")
LOAD = Path("/proc/loadavg")
LOOKS = 3
LOOK_SECONDS = 0.001


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads sleep soon, and undo the one thread that launchers give by default.

    Libraries read these variables when they are loaded, so programs call this first; processes
    that they start inherit it. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in WAITING.items():
            environment.setdefault(name, value)
    if environment.get("OMP_NUM_THREADS") == "1" and _set_by_launcher(environment):
        del environment["OMP_NUM_THREADS"]
    cores = available_cores()
    if cores < _visible_cores() and "OMP_NUM_THREADS" not in environment:
        environment["OMP_NUM_THREADS"] = str(cores)  # libraries do not look at cgroups


def usable_threads(sharers: int = 1) -> int:
    """Return how many threads to compute with: a share of the cores, at most `OMP_NUM_THREADS`.

    Args:
        sharers: How many processes share the cores out among them.
    """
    share = max(1, available_cores() // sharers)
    first = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))
    return share if first is None else min(share, max(1, int(first[1])))


def cores_are_taken(threads: int) -> bool:
    """Whether others compute on cores that so many threads of this process would need."""
    looks = []
    try:
        # A program that has just begun shows here, and only later in the averages.
        for _ in range(LOOKS):
            running = LOAD.read_text(encoding="utf-8").split()[3].partition("/")[0]
            looks.append(int(running) - 1)  # without the thread that reads this
            time.sleep(LOOK_SECONDS)
    except (OSError, ValueError, IndexError):
        return False  # not Linux
    return statistics.median(looks) + threads > (os.cpu_count() or 1) + 0.5


def available_cores() -> int:
    """Return how many cores this process may use, which in a container may be few of many."""
    limit = _cgroup_limit()
    cores = _visible_cores()
    return cores if limit is None else max(1, min(cores, int(limit)))


def _visible_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_limit() -> float | None:
    """Return how many cores' time this process's container may use; None without a limit.

    The files are those of cgroups of version 2 and of version 1, as a container sees its own.
    """
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        with suppress(OSError, ValueError):
            parts = [(CGROUPS / name).read_text(encoding="utf-8") for name in names]
            quota, period = " ".join(parts).split()  # the quota may be `max`, or -1
            if int(quota) > 0:
                return int(quota) / int(period)
    return None


def _set_by_launcher(environment: MutableMapping[str, str]) -> bool:
    """Whether `accelerate launch` or torchrun chose the number of threads, rather than the user."""
    if not {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & environment.keys():
        return False
    import psutil

    try:
        return "OMP_NUM_THREADS" not in psutil.Process(os.getppid()).environ()
    except psutil.Error:
        return True
