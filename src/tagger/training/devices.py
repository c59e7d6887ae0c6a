"""Sets up the devices of a process: accelerator, threads, determinism, precision."""

import os

import torch
from accelerate import Accelerator

from tagger.errors import UserError
from tagger.threads import usable_threads

SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""What `accelerate launch` tells its processes of plans that divide a model among them."""

LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"
"""What it tells them of `mixed_precision`; `no` too where nobody chose."""


def build_accelerator(threads: int | None, sharers: int | None = None) -> Accelerator:
    """Set this process up to train: deterministic, on its share of the machine's cores.

    Args:
        threads: How many to compute with; None: all cores, shared out.
        sharers: Processes that share the cores; None: those of this training.

    Raises:
        UserError: when the launcher asks to divide the model itself among processes, or started
            this process alone where it was to start several.
    """
    for variable, plan in SHARDED.items():
        if os.environ.get(variable, "").lower() in ("1", "true"):
            raise UserError(
                f"accelerate's config asks for {plan}, and training computes the whole model in "
                "each process",
                hint="Launch it with distributed_type: MULTI_GPU or NO (docs/multi-node.md).",
            )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `use_deterministic_algorithms` does the same and imports torch's compiler, 1.5 s, on the way.
    torch.set_deterministic_debug_mode("warn")
    # Meant for finding reads of memory that was never written; it costs an eighth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Autocast is ours (training.mixed_precision): weights stay fp32, and so does what is served.
    # Without cpu=True, processes on CPUs would not find each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    # accelerate launch names a main address where it is asked for several processes.
    several = {LAUNCHED_PRECISION, "MASTER_ADDR"} <= os.environ.keys()
    if several and "WORLD_SIZE" not in os.environ and accelerator.num_processes == 1:
        raise UserError(
            "accelerate launch was asked for several processes, and started this one alone, as it "
            "does on CPUs without MPI",
            hint="Start them with torchrun, or with distributed_type: MULTI_GPU "
            "(docs/multi-node.md).",
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    torch.set_num_threads(threads or usable_threads(sharers=sharers or local))
    return accelerator


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Decide on bf16: it pays on GPUs that compute in it, and on CPUs with AVX512-BF16 or AMX.

    Args:
        wanted: `fp32` or `bf16`; `auto`: bf16 where it pays, or where the launcher asks for it.
        device: What forward passes are computed on.
    """
    if wanted != "auto":
        return wanted
    if os.environ.get(LAUNCHED_PRECISION) == "bf16":
        return "bf16"
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported()
    else:
        supported = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if supported else "fp32"


def overridden_precision(precision: str) -> list[str]:
    """Say, in a sentence or none, that the launcher's `mixed_precision` is not what is computed in.

    Args:
        precision: What `resolve_precision` decided on.
    """
    launched = os.environ.get(LAUNCHED_PRECISION)
    if launched is None or launched == {"fp32": "no"}.get(precision, precision):
        return []
    return [
        f"accelerate's mixed_precision is {launched}, and {precision} is computed in: "
        "training.mixed_precision decides"
    ]
