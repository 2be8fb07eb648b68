"""The critic of flows: parameters as counted from the post, and what it answers."""

from __future__ import annotations

import pytest
import torch

from edgeflock.export.nets.critic import Critic

torch.set_num_threads(1)


@pytest.mark.parametrize(("channels", "literal", "count"), [(3, True, 2_788_848), (5, False, 2_790_896 + 257)])
def test_parameters_are_those_of_the_post(channels: int, literal: bool, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in Critic(channels, literal).parameters()) == count


def test_literal_answers_lie_between_0_and_1_and_the_others_are_one_number_without_bounds() -> None:
    torch.manual_seed(0)
    flow, image = 100 * torch.randn(2, 3, 32, 32, 32), torch.rand(2, 1, 32, 32, 32)
    critic = Critic()
    with torch.no_grad():
        mean_features = Critic(3, literal=True)(flow)
        score = critic(flow, image, image)
        critic.judge.weight *= 100
        critic.judge.bias *= 100
        torch.testing.assert_close(critic(flow, image, image), 100 * score)
    assert mean_features.shape == (2, 256) and 0 < mean_features.min() < mean_features.max() < 1
    assert score.shape == (2, 1)
