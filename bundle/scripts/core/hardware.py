"""What the processor or GPU of this machine can do."""

import os

import torch

OLDER = ("DEFAULT", "AVX2")  # instructions that torch uses, without AVX-512


def supports_bfloat16(device: torch.device | str) -> bool:
    """Whether a device has instructions for bfloat16, and uses them: recent GPUs, and CPUs with AVX-512 BF16 or AMX.

    Torch can be held to older instructions by ATEN_CPU_CAPABILITY; bfloat16 then takes twenty times as long as float32.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.cpu.get_cpu_capability() in OLDER:
        return False
    found: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def core_count() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
