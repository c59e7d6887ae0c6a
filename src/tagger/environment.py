"""Describes what results depend on beside the config: git revision, versions, hardware."""

import platform
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from tagger.documents import Record
from tagger.files import INSTALLED, REPO_ROOT
from tagger.threads import available_cores

VERSION = "0.1.0"
"""Of this package; pyproject.toml has it from here."""

LIBRARIES = (
    "tagger", "torch", "transformers", "tokenizers", "accelerate", "datasets", "evaluate",
    "scikit-learn", "numpy", "optuna", "onnxruntime",
)  # fmt: skip

CPU_INFORMATION = Path("/proc/cpuinfo")
PROCESS_STATUS = Path("/proc/self/status")

NOT_INSTALLED = "not installed"

INSTRUCTIONS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16",
    "amx_int8", "amx_bf16", "neon", "asimd", "asimddp", "i8mm",
)  # fmt: skip
"""Sets of instructions, as Linux calls them, by which matrices are multiplied on x86 and on ARM."""

PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*@")
"""In the address of a database; a file that is shared must not hold it."""


class Revision(Record):
    """The commit that the code stood at, and whether files differed from it."""

    revision: str
    changed_files: bool


class Hardware(Record):
    """Processor, cores that the process might use, memory, and the GPU if there was one."""

    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None
    system: str


class Environment(Record):
    """What a result depends on beside its config; without history there is no revision."""

    git: Revision | None
    versions: dict[str, str]
    hardware: Hardware
    command: list[str]


def describe_environment() -> Environment:
    """Return the git revision, the versions of the libraries, the hardware, and the command."""
    return Environment(
        git=git_revision(),
        versions={"python": platform.python_version()}
        | {name: library_version(name) for name in LIBRARIES},
        hardware=hardware(),
        command=[PASSWORD.sub(r"\1***@", argument) for argument in sys.argv],
    )


@cache  # looking one up takes milliseconds, and while a process runs it stays
def library_version(name: str) -> str:
    """Return the installed version of a library, or `not installed`."""
    if name == "tagger":
        return VERSION
    from importlib import metadata  # 20 ms that a prediction need not wait for

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def git_revision() -> Revision | None:
    """Return the commit that the code stands at, and whether files differ from it."""
    if INSTALLED:
        return None  # a repository that a wheel lies in is another's
    try:
        revision = _git("rev-parse", "HEAD")
        return Revision(revision=revision, changed_files=bool(_git("status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):
        return None  # a copy without its history, or no git


def hardware() -> Hardware:
    """Return processor, cores that this process may use, memory in GiB, and GPU if any."""
    import psutil

    return Hardware(
        cpu=_cpu_name(),
        cores=available_cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=_gpu_name(),
        system=platform.platform(),
    )


def instruction_sets() -> list[str]:
    """Return those of `INSTRUCTIONS` that this CPU has, sorted; elsewhere what kind it is."""
    flags = _read_field(CPU_INFORMATION, "flags") or _read_field(CPU_INFORMATION, "Features")
    return sorted({*INSTRUCTIONS} & {*flags.split()}) if flags else [platform.machine()]


def peak_memory_mib() -> float:
    """Return the largest resident size that this process has had, in MiB."""
    # On Linux getrusage also counts what the process was that started this one, such as a launcher.
    if peak := _read_field(PROCESS_STATUS, "VmHWM"):
        return round(int(peak.split()[0]) / 2**10, 1)
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return float(round(getattr(memory, "peak_wset", memory.rss) / 2**20, 1))
    # In bytes: of the systems that have the module, macOS is the one without the file above.
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPO_ROOT), *arguments],
        capture_output=True, encoding="utf-8", check=True, timeout=10,
    ).stdout.strip()  # fmt: skip


def _cpu_name() -> str:
    name = _read_field(CPU_INFORMATION, "model name")
    return name or platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    try:
        import torch
    except (ImportError, OSError):  # a broken one cannot load its libraries
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _read_field(path: Path, name: str) -> str:
    """Return the first field of that name in a file of Linux about itself; "" elsewhere."""
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""
