"""GDanceR: its attention against loops, and what must not change."""

import math

import pytest

torch = pytest.importorskip("torch")

from edgeflock.export.nets.gdancer import CrossEntityAttention, GDanceR  # noqa: E402


@pytest.fixture
def attention():
    torch.manual_seed(0)
    attention = CrossEntityAttention(6).double()
    torch.nn.init.normal_(attention.gamma)
    return attention


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return GDanceR(music=5, pose=9, width=16, layers=2, encoder_layers=1, heads=2).eval()


def test_nearness_is_symmetric_one_of_oneself_and_the_same_wherever_the_group_stands():
    place = torch.randn(2, 4, 3, dtype=torch.float64)
    near = CrossEntityAttention.nearness(place)
    torch.testing.assert_close(near, near.transpose(1, 2))
    torch.testing.assert_close(near.diagonal(dim1=1, dim2=2), torch.ones(2, 4, dtype=torch.float64))
    assert ((near > 0) & (near <= 1)).all()
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    torch.testing.assert_close(CrossEntityAttention.nearness(place @ turn + 7), near)


def test_attention_agrees_with_its_equations_term_by_term(attention):
    hidden, place = torch.randn(1, 3, 6, dtype=torch.float64), torch.randn(1, 3, 3, dtype=torch.float64)
    got = attention(hidden, place)[0]
    q, k, v = (layer(hidden)[0] for layer in (attention.q, attention.k, attention.v))
    for i in range(3):
        e = [torch.exp(-((place[0, i] - place[0, j]).norm() ** 2) / math.sqrt(3)) for j in range(3)]
        score = [q[i] @ k[j] / math.sqrt(6) + e[j] for j in range(3)]
        total = sum(s.exp() for s in score)
        wanted = sum(score[j].exp() / total * (v[j] + e[j] * attention.gamma) for j in range(3))
        torch.testing.assert_close(got[i], wanted, rtol=1e-9, atol=1e-9)


def test_alone_a_dancer_attends_to_itself(attention):
    hidden = torch.randn(1, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(attention(hidden, torch.randn(1, 1, 3).double()), attention.v(hidden) + attention.gamma)


def test_far_apart_and_without_gamma_it_is_plain_attention_with_more_for_oneself(attention):
    torch.nn.init.zeros_(attention.gamma)
    hidden, place = torch.randn(1, 3, 6, dtype=torch.float64), torch.arange(3)[None, :, None] * torch.full((3,), 1e3)
    q, k, v = (layer(hidden) for layer in (attention.q, attention.k, attention.v))
    plain = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(6) + torch.eye(3), -1) @ v
    torch.testing.assert_close(attention(hidden, place.double()), plain)


def test_its_gradient_is_right(attention):
    hidden = torch.randn(1, 2, 6, dtype=torch.float64, requires_grad=True)
    place = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (hidden, place))


def test_dancers_in_another_order_dance_the_same(net):
    music, place, order = torch.randn(1, 6, 5), torch.randn(1, 4, 3), torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(net(music, place[:, order]), net(music, place)[:, order], rtol=1e-4, atol=1e-5)


def test_step_by_step_equals_teacher_forcing_with_its_own_frames(net):
    music, place = torch.randn(2, 6, 5), torch.randn(2, 3, 3)
    alone = net(music, place)
    torch.testing.assert_close(net(music, place, alone, share=1.0), alone)


def test_the_first_pose_stands_where_the_dancer_was_put(net):
    place = torch.randn(1, 3, 3)
    torch.testing.assert_close(net(torch.randn(1, 4, 5), place)[:, :, 0, :3], place)


def test_with_attention_a_formation_is_kept_better_than_without():
    """Each dancer's next place is the mean of the others': only who sees the others can tell it."""
    places = torch.randn(32, 3, 3, generator=torch.Generator().manual_seed(0))
    wanted = (places.sum(1, keepdim=True) - places) / 2
    errors = {}
    for attention in (True, False):
        torch.manual_seed(0)
        net = GDanceR(music=1, pose=3, width=32, layers=1, encoder_layers=0, heads=2, dropout=0, attention=attention)
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(100):
            loss = (net(torch.zeros(32, 2, 1), places)[:, :, 1] - wanted).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        errors[attention] = loss.item()
    assert errors[True] < 0.6 * errors[False]
