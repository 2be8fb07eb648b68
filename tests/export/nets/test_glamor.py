"""GLAMOR-Net: counts, attention, fusion, and that it is the net of the post."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from edgeflock.export.nets import NETS
from edgeflock.export.nets.glamor import (
    CONTEXT,
    FACE,
    ContextAttention,
    Encoder,
    Glamor,
    GlobalLocalAttention,
    MeanPooling,
)

torch.set_num_threads(1)


def images(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.rand(n, 3, FACE, FACE), torch.rand(n, 3, CONTEXT, CONTEXT)


@pytest.mark.parametrize(("name", "count"), [("glamor", 2_158_602), ("glamor-resnet18", 22_748_298)])
def test_parameter_count_is_exact(name: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in NETS[name]().parameters()) == count


@pytest.mark.parametrize(("name", "cells"), [("glamor", 7), ("glamor-resnet18", 4)])
def test_gives_a_distribution_and_an_attention_map(name: str, cells: int) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        probabilities, attention = NETS[name]().eval()(*images(2))
    assert probabilities.shape == (2, 7) and attention.shape == (2, 1, cells, cells)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
    torch.testing.assert_close(attention.sum((1, 2, 3)), torch.ones(2))
    assert (attention >= 0).all()


def test_encoder_equals_the_table_of_facts() -> None:
    with torch.device("meta"):
        encoder = Encoder()
        assert sum(p.numel() for p in encoder.parameters()) == 979_968
        assert encoder(torch.zeros(1, 3, FACE, FACE)).shape == (1, 256, 6, 6)
        assert encoder(torch.zeros(1, 3, CONTEXT, CONTEXT)).shape == (1, 256, 7, 7)
    assert {m.eps for m in Glamor().modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}


def attention(channels: int = 6) -> GlobalLocalAttention:
    torch.manual_seed(1)
    gla = GlobalLocalAttention(channels).eval()
    gla.norm.running_mean.normal_()
    gla.norm.running_var.uniform_(0.5, 2)
    return gla


def test_attention_equals_the_dense_net_on_each_cell_in_turn() -> None:
    gla, v_f, context = attention(), torch.randn(2, 6), torch.randn(2, 6, 3, 4)
    with torch.no_grad():
        v_c, weights = gla(v_f, context)
        for n in range(2):
            scores = []
            for cell in context[n].flatten(1).T:
                hidden = F.relu(gla.hidden(torch.cat([v_f[n], cell])))
                scores.append(gla.score(F.relu(gla.norm(hidden[None, :, None, None]))[0, :, 0, 0]))
            a = torch.cat(scores).softmax(0)
            torch.testing.assert_close(weights[n, 0].flatten(), a)
            torch.testing.assert_close(v_c[n], context[n].flatten(1) @ a)


def test_attention_follows_cells_that_change_places() -> None:
    gla, v_f, context = attention(), torch.randn(1, 6), torch.randn(1, 6, 3, 4)
    order = torch.randperm(12)
    moved = context.flatten(2)[:, :, order].view_as(context)
    with torch.no_grad():
        (v_c, weights), (v_moved, weights_moved) = gla(v_f, context), gla(v_f, moved)
    torch.testing.assert_close(weights_moved.flatten(), weights.flatten()[order])
    torch.testing.assert_close(v_moved, v_c)


def test_attention_to_a_uniform_context_is_uniform() -> None:
    gla, context = attention(), torch.randn(1, 6, 1, 1).expand(1, 6, 3, 4)
    torch.testing.assert_close(gla(torch.randn(1, 6), context)[1], torch.full((1, 1, 3, 4), 1 / 12))


def test_the_face_decides_what_is_attended_to() -> None:
    gla, context = attention(), torch.randn(1, 6, 3, 4)
    assert not torch.allclose(gla(torch.randn(1, 6), context)[1], gla(torch.randn(1, 6), context)[1])


def test_branches_are_weighted_by_the_softmax_of_their_scores() -> None:
    net, (face, context) = Glamor().eval(), images(2)
    seen = {}
    net.head.register_forward_pre_hook(lambda _module, inputs: seen.update(both=inputs[0]))
    with torch.no_grad():
        net(face, context)
        v_f = net.face(face).mean((2, 3))
        v_c, _ = net.attention(v_f, net.context(context))
        s_f, s_c = net.face_weight(v_f).exp(), net.context_weight(v_c).exp()
        expected = torch.cat([v_f * s_f / (s_f + s_c), v_c * s_c / (s_f + s_c)], 1)
    torch.testing.assert_close(seen["both"], expected)


def test_fusion_shares_sum_to_one_and_follow_branches_that_change_places() -> None:
    torch.manual_seed(2)
    net, v_f, v_c = Glamor(), torch.randn(5, 256), torch.randn(5, 256)
    with torch.no_grad():
        shares = net.weights(v_f, v_c)
        net.face_weight, net.context_weight = net.context_weight, net.face_weight
        swapped = net.weights(v_c, v_f)
    assert (shares > 0).all() and shares[:, 0].std() > 0
    torch.testing.assert_close(shares.sum(1), torch.ones(5))
    torch.testing.assert_close(swapped, shares.flip(1))


@pytest.mark.parametrize(
    ("name", "missing"),
    # what each lacks of 2,158,602: the face's half of Dense128; all of the attention; the two score nets
    [("glamor-context", 256 * 128), ("glamor-mean", 65_664 + 256 + 129), ("glamor-concat", 2 * 33_025)],
)
def test_nets_of_the_comparison_lack_one_part_and_nothing_else(name: str, missing: int) -> None:
    net = NETS[name]().eval()
    assert sum(p.numel() for p in net.parameters()) == 2_158_602 - missing
    with torch.no_grad():
        probabilities, weights = net(*images(1))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1))
    torch.testing.assert_close(weights.sum((1, 2, 3)), torch.ones(1))


def test_without_the_face_in_the_attention_it_has_no_say() -> None:
    context = torch.randn(1, 6, 3, 4)
    alone, mean = ContextAttention(6).eval(), MeanPooling(6)
    with torch.no_grad():
        torch.testing.assert_close(alone(torch.randn(1, 6), context), alone(torch.randn(1, 6), context))
        v_c, weights = mean(torch.randn(1, 6), context)
    torch.testing.assert_close(v_c, context.mean((2, 3)))
    torch.testing.assert_close(weights, torch.full((1, 1, 3, 4), 1 / 12))
