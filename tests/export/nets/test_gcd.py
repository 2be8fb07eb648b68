"""GCD's nets: counts, masks, what no order of dancers and no padding may change."""

import pytest

torch = pytest.importorskip("torch")

from edgeflock.export.nets.gcd import GCD, ContrastiveEncoder, Music  # noqa: E402
from edgeflock.export.nets.gcd.blocks import GroupModulation, rotary  # noqa: E402
from edgeflock.runtime.errors import InputError  # noqa: E402


def weights(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return GCD(width=16, layers=2, hidden=32, heads=2, music=5, frames=6, dancers=5).eval()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    return ContrastiveEncoder(width=16, layers=1, hidden=32, heads=2).eval()


def denoise(net, motion, mask=None, step=400):
    torch.manual_seed(2)
    music = net.encode(torch.randn(1, motion.shape[2], 5))
    return net(motion, torch.tensor([step]), *music, net.embed_group(music, torch.randn(1, 16)), mask)


def test_the_published_62_million_are_denoiser_and_contrastive_encoder():
    with torch.device("meta"):
        denoiser, contrastive = weights(GCD()), weights(ContrastiveEncoder())
    assert (denoiser, contrastive, denoiser + contrastive) == (51_044_503, 11_117_569, 62_162_072)


def test_a_dancer_sees_only_itself_in_the_local_block_and_all_in_the_global_one(net):
    x = torch.randn(1, 3, 6, 16)
    other = x.clone()
    other[0, 2] += 1
    memory, context = torch.randn(3, 8, 16), torch.randn(3, 16)
    local = [net.local[0](group[0], memory, memory, context, None) for group in (x, other)]
    torch.testing.assert_close(local[0][:2], local[1][:2])
    assert not torch.allclose(local[0][2], local[1][2])
    everyone = [net.everyone[0](group.flatten(1, 2)) for group in (x, other)]
    assert (everyone[0] - everyone[1])[0, :12].abs().amax(-1).min() > 0


def test_dancers_in_another_order_dance_the_same(net, encoder):
    x, order = torch.randn(1, 4, 6, 151), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(denoise(net, x[:, order]), denoise(net, x)[:, order], rtol=1e-4, atol=1e-5)
    group, steps = torch.randn(1, 16), torch.randint(0, 1000, (1, 4))
    scores = [encoder(x[:, by, :, :147], group, steps[:, by]) for by in (torch.arange(4), order)]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


def test_what_stands_in_the_place_of_no_dancer_changes_nothing(net, encoder):
    x = torch.randn(1, 4, 6, 151)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    mask[:, 3] = False
    junk = x.clone()
    junk[:, 3] = 1e3
    dances = [denoise(net, motion, mask)[:, :3] for motion in (x, junk)]
    torch.testing.assert_close(*dances)
    torch.testing.assert_close(dances[0], denoise(net, x[:, :3]), rtol=1e-4, atol=1e-5)
    group, steps = torch.randn(1, 16), torch.full((1, 4), 7)
    scores = [encoder(motion[..., :147], group, steps, mask) for motion in (x, junk)]
    torch.testing.assert_close(*scores)


def test_missing_frames_change_nothing_either(net):
    x = torch.randn(1, 2, 6, 151)
    mask = torch.ones(1, 2, 6, dtype=torch.bool)
    mask[:, :, 4:] = False
    junk = x.clone()
    junk[:, :, 4:] = -50
    torch.testing.assert_close(denoise(net, x, mask)[:, :, :4], denoise(net, junk, mask)[:, :, :4])


def test_group_modulation_normalises_over_all_frames_that_count():
    x, mask = torch.randn(2, 40, 8) * 3 + 5, torch.rand(2, 40) < 0.6
    even = GroupModulation.normalise(x, mask)
    for one, kept in zip(even, mask, strict=True):
        torch.testing.assert_close(one[kept].mean(0), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(one[kept].var(0, unbiased=False), torch.ones(8), atol=1e-4, rtol=0)
    assert torch.isfinite(GroupModulation.normalise(torch.ones(1, 4, 8), None)).all()  # a channel that is constant


def test_a_group_beyond_the_table_is_danced(net):
    assert denoise(net, torch.randn(1, 10, 6, 151)).shape == (1, 10, 6, 151)


def test_more_music_than_a_chunk_is_refused(net):
    with pytest.raises(InputError, match="at most 6 frames, got 7"):
        net.encode(torch.zeros(1, 7, 5))


def test_music_that_is_not_told_has_the_shapes_of_music(net):
    music = net.encode(torch.randn(3, 4, 5))
    nothing = net.nothing(music)
    assert isinstance(nothing, Music) and [t.shape for t in nothing] == [t.shape for t in music]


def test_rotary_places_keep_lengths_and_the_angle_of_equal_distances():
    q, k = torch.randn(2, 1, 8)
    scores = [(rotary(q, i) * rotary(k, i + 3)).sum() for i in (0, 5, 100)]
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rotary(q, 9).norm(), q.norm())


def test_the_score_of_the_released_code_depends_on_who_is_first():
    torch.manual_seed(1)
    first = ContrastiveEncoder(width=16, layers=1, hidden=32, heads=2, pooling="first").eval()
    x, group, steps = torch.randn(1, 3, 6, 147), torch.randn(1, 16), torch.full((1, 3), 7)
    assert (first(x, group, steps) - first(x.flip(1), group, steps)).abs() > 1e-4
