"""Sets up the devices of a process: accelerator, threads, determinism, precision."""

import os

import torch
from accelerate import Accelerator

from tagger.threads import usable_threads


def build_accelerator(threads: int | None, sharers: int | None = None) -> Accelerator:
    """Set this process up to train: deterministic, on its share of the machine's cores.

    Args:
        threads: How many to compute with; None: all cores, shared out.
        sharers: Processes that share the cores; None: those of this training.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `use_deterministic_algorithms` does the same and imports torch's compiler, 1.5 s, on the way.
    torch.set_deterministic_debug_mode("warn")
    # Meant for finding reads of memory that was never written; it costs an eighth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Autocast is ours (training.mixed_precision): weights stay fp32, and so does what is served.
    # Without cpu=True, processes on CPUs would not find each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    torch.set_num_threads(threads or usable_threads(sharers=sharers or local))
    return accelerator


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Decide on bf16: it pays on GPUs that compute in it, and on CPUs with AVX512-BF16 or AMX."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported()
    else:
        supported = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if supported else "fp32"
