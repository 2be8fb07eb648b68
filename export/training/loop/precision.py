"""bfloat16 in training, where the processor computes in it."""

from __future__ import annotations

import torch

from edgeflock.runtime.board.facts import cpu_flags

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Names in /proc/cpuinfo: x86-64, and Armv8.6."""


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """Context in which a net trains, in bfloat16 if that is asked for and the processor has instructions for it.

    Elsewhere torch emulates it, and a step of FADNet takes 1.4 to 1.7 times as long (docs/train.md).
    """
    has = torch.cuda.is_bf16_supported() if device.type == "cuda" else bool(BF16_FLAGS & cpu_flags())
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and has)
