"""Where a model computes and in which precision."""

from __future__ import annotations

import torch

from bert_scratch.config import InputError
from bert_scratch.model.compute_settings import ComputeSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def take_device(settings: ComputeSettings) -> torch.device:
    """Return the requested device, and set torch's number of CPU threads.

    Raises:
        InputError: if there is no such device.
    """
    device = resolve_device(settings.device)
    torch.set_num_threads(settings.threads)
    return device


def resolve_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or cuda:N into a device; auto takes a GPU when there is one.

    Raises:
        InputError: if the device is unknown or not present.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N; got {name!r}")
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise InputError(f"--device {name}: this machine has no such GPU; use --device cpu")
    return device


def resolve_dtype(name: str, device: torch.device) -> tuple[str, str]:
    """Return the compute dtype's name and the reason for it.

    On a CPU bfloat16 only pays with instructions for it: emulated, it is tens of times slower
    than float32. On a GPU the compute capability decides: bfloat16 from 8.0 on, float16 below.

    Raises:
        InputError: if the name is not auto, float32, bfloat16 or float16.
    """
    if name != "auto":
        if name not in DTYPES:
            raise InputError(f"--dtype must be auto, {', '.join(DTYPES)}; got {name!r}")
        return name, "as asked"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        reason = f"compute capability {capability[0]}.{capability[1]}"
        return ("bfloat16" if capability >= (8, 0) else "float16"), reason
    fast = cpu_computes_bfloat16()
    reason = "the CPU has bfloat16 instructions" if fast else "the CPU has none for bfloat16"
    return ("bfloat16" if fast else "float32"), reason


def cpu_computes_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16 in hardware (avx512_bf16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
