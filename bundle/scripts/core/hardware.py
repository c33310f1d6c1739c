"""What the processor or GPU of this machine can do."""

import torch


def supports_bfloat16(device: torch.device | str) -> bool:
    """Whether a device has instructions for bfloat16: recent GPUs, and CPUs with AVX-512 BF16 or AMX."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
