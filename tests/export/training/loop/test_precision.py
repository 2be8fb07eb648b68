"""bfloat16 where the processor computes in it, and nowhere else."""

import pytest
import torch

from edgeflock.export.training.loop import precision


@pytest.mark.parametrize("flags", [{"avx512f", "avx512_bf16"}, {"amx_bf16"}, {"asimd", "bf16"}])
def test_a_processor_that_has_it_trains_in_it_if_asked(monkeypatch, flags):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    for asked, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with precision.autocast(torch.device("cpu"), asked):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype


def test_one_that_would_emulate_it_trains_in_float32(monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx2", "avx512f", "avx512_vnni"})
    with precision.autocast(torch.device("cpu"), True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
