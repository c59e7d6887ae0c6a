"""Makes any Python program that finds this on its path do without what Windows lacks.

Modules, functions and /proc are gone; a file that is open cannot be removed or replaced, and
nothing is renamed over what exists. `sys.platform` stays, since libraries go by it.
"""

import asyncio  # noqa: F401  # as are those below: imported before what they use is gone
import builtins
import contextlib
import ctypes  # noqa: F401
import io
import multiprocessing.context
import multiprocessing.popen_spawn_posix
import multiprocessing.resource_tracker
import multiprocessing.synchronize  # noqa: F401
import os
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import uuid  # noqa: F401
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock  # noqa: F401
import psutil  # noqa: F401

LACKING = ("fork", "forkpty", "getuid", "killpg", "sched_getaffinity", "sched_setaffinity")
LACKING += ("setsid", "getsid", "sysconf", "wait4", "mkfifo")

for module in ("fcntl", "grp", "pwd", "resource"):
    sys.modules[module] = None  # type: ignore[assignment]
for function in LACKING:
    delattr(os, function)
warnings.filterwarnings("error", category=EncodingWarning, module=r"tagger(\.|$)")


def open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(str(descriptor.readlink()))
    return found


def keep_open_files(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    def wrapped(*paths: Any, **given: Any) -> Any:
        path = os.path.realpath(paths[place])
        if given.get("dir_fd") is None and path in open_files():
            raise PermissionError(13, "The process cannot access the file: it is in use", path)
        return function(*paths, **given)

    return wrapped


def keep_what_exists(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(source: Any, target: Any, **given: Any) -> Any:
        if Path(target).exists():
            raise FileExistsError(17, "Cannot create a file when that file already exists", target)
        return function(source, target, **given)

    return wrapped


def without_proc(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(path: Any, *rest: Any, **given: Any) -> Any:
        caller = sys._getframe(1).f_globals["__name__"]
        if caller == "pathlib" and str(path).startswith("/proc/"):
            raise FileNotFoundError(2, "The system cannot find the path specified", str(path))
        return function(path, *rest, **given)

    return wrapped


def never_signal_zero(function: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def wrapped(process: int, number: int) -> None:
        ours = sys._getframe(1).f_globals["__name__"].startswith("tagger")
        assert number or not ours, "on Windows this would send Ctrl-C"
        function(process, number)

    return wrapped


os.rename = keep_what_exists(os.rename)
os.replace = keep_open_files(os.replace, 1)
os.unlink = os.remove = keep_open_files(os.unlink, 0)
os.stat = without_proc(os.stat)
os.kill = never_signal_zero(os.kill)
io.open = without_proc(builtins.open)
