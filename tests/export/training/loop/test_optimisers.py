"""Optimisers: torch's steps, and none of what compiles nets."""

import subprocess
import sys
import textwrap

import pytest
import torch

from edgeflock.export.training.loop import optimisers


@pytest.mark.parametrize(("name", "settings"), [("Adam", {"weight_decay": 0.1}), ("SGD", {"momentum": 0.9})])
def test_steps_and_state_are_those_of_torch(name, settings):
    def trained(kind):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        optimiser = getattr(kind, name)(net.parameters(), 0.1, **settings)
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (step + 1))
        for _ in range(3):
            optimiser.zero_grad()
            net(torch.randn(4, 3)).square().sum().backward()
            optimiser.step()
            rate.step()
            optimiser.load_state_dict(optimiser.state_dict())
        return net.weight, optimiser.state_dict()["param_groups"]

    (ours, groups), (torchs, expected) = trained(optimisers), trained(torch.optim)
    assert torch.equal(ours, torchs) and groups == expected


def test_a_step_loads_nothing_of_what_compiles_nets():
    program = """
        import sys, torch
        from edgeflock.export.training.loop.optimisers import Adam
        net = torch.nn.Linear(3, 2)
        optimiser = Adam(net.parameters())
        net(torch.ones(1, 3)).sum().backward()
        optimiser.step()
        assert "torch._dynamo" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
