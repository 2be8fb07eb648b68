"""LDLVA's parts by their definition: distribution, neighbours, uncertainties, centres, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgeflock.export.training.methods.ldlva import (
    Ldlva,
    LdlvaSettings,
    Released,
    aggregate,
    area_under_roc,
    calibration_net,
    flip,
    nearest,
    repulsion,
)
from edgeflock.runtime.errors import DataError

torch.set_num_threads(1)

N, K, V, M = 12, 3, 4, 5
SETTINGS = LdlvaSettings(neighbours=K, gamma=0.1)
KINDS = pytest.mark.parametrize("kind", [Ldlva, Released])


def method(kind: type[Ldlva] = Ldlva, settings: LdlvaSettings = SETTINGS) -> Ldlva:
    """In float64, with chance in everything that is learnt."""
    torch.manual_seed(0)
    affect = torch.rand(N, 2, dtype=torch.float64) * 2 - 1
    made = kind(affect, torch.arange(N) % M, M, V, settings).double()
    with torch.no_grad():
        made.doubt.normal_()
        made.centres.normal_()
    return made


def batch(of: Ldlva, size: int = 6) -> tuple[torch.Tensor, ...]:
    """Index, features and scores of samples and neighbours."""
    torch.manual_seed(1)
    index = torch.randperm(N)[:size]
    near = of.neighbours.shape[1]
    shapes = (size, V), (size, M), (size, near, V), (size, near, M)
    return index, *(torch.randn(shape, dtype=torch.float64) for shape in shapes)


@KINDS
def test_the_target_is_a_distribution(kind: type[Ldlva]) -> None:
    of = method(kind)
    index, v, _, v_near, scores_near = batch(of)
    d = of.target(index, of.doubt[index].sigmoid(), v, v_near, scores_near)
    assert (d >= 0).all() and torch.allclose(d.sum(1), torch.ones(len(index), dtype=torch.float64))


@KINDS
def test_trusted_labels_give_plain_cross_entropy(kind: type[Ldlva]) -> None:
    of = method(kind, SETTINGS.model_copy(update={"gamma": 0.0}))
    with torch.no_grad():
        of.doubt.fill_(-torch.inf)
    index, v, scores, *near = batch(of)
    assert torch.equal(of(index, v, scores, *near), F.cross_entropy(scores, of.labels[index]))


def test_the_target_is_the_formula_of_the_post() -> None:
    of = method()
    index, v, _, v_near, scores_near = batch(of)
    got = of.target(index, of.doubt[index].sigmoid(), v, v_near, scores_near)
    torch.manual_seed(0)
    affect = torch.rand(N, 2, dtype=torch.float64) * 2 - 1
    pairs = torch.stack([torch.cat([v[i], v_near[i, k]]) for i in range(len(index)) for k in range(K)])
    zeta = torch.sigmoid(of.calibration(pairs)).view(-1, K)  # together: g normalises over all pairs of a batch
    for row, i in enumerate(index):
        near = of.neighbours[i]
        s = torch.exp(-((affect[i] - affect[near]) ** 2).sum(1) / 0.5**2)
        c = zeta[row] * s
        mean = (c[:, None] * scores_near[row].softmax(1)).sum(0) / c.sum()
        lam = torch.sigmoid(of.doubt[i])
        expected = (1 - lam) * F.one_hot(of.labels[i], M) + lam * mean
        assert torch.allclose(got[row], expected, atol=1e-12)


def test_one_neighbour_is_all_there_is_to_say() -> None:
    of = method(settings=SETTINGS.model_copy(update={"neighbours": 1}))
    index, v, _, v_near, scores_near = batch(of)
    everything = torch.ones(len(index), dtype=torch.float64)
    assert torch.allclose(of.target(index, everything, v, v_near, scores_near), scores_near[:, 0].softmax(1))


def test_only_ratios_of_contributions_count() -> None:
    log_c, p = torch.randn(6, K), torch.rand(6, K, M)
    for scale in (-300.0, -5.0, 40.0):
        assert torch.allclose(aggregate(log_c, p), aggregate(log_c + scale, p), atol=1e-5)


@KINDS
def test_similarity_is_symmetric_and_highest_for_equals(kind: type[Ldlva]) -> None:
    a, b = torch.randn(7, 2), torch.randn(7, 2)
    of = method(kind)
    assert torch.equal(of.log_local_similarity(a, b), of.log_local_similarity(b, a))
    assert (of.log_local_similarity(a, b) < 0).all() and (of.log_local_similarity(a, a) == 0).all()


def test_similarity_of_post_and_released_code() -> None:
    a, b = torch.tensor([0.1, -0.2]), torch.tensor([0.4, 0.2])  # L2 0.5, L1 0.7
    assert method().log_local_similarity(a, b).item() == pytest.approx(-0.25 / 0.25)
    assert method(Released).log_local_similarity(a, b).item() == pytest.approx(-0.7 / 0.5)


def test_neighbours_are_the_nearest_others() -> None:
    points = torch.randn(40, 3)
    points[7] = points[3]  # twins are each other's neighbours, never their own
    got = nearest(points, 5)
    distance = (points[:, None] - points).norm(dim=-1).fill_diagonal_(torch.inf)
    assert not (got == torch.arange(40)[:, None]).any()
    assert got[7, 0] == 3 and got[3, 0] == 7
    assert torch.allclose(distance.gather(1, got), distance.sort(1).values[:, :5])


def test_neighbours_of_many_points_are_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(50, 2)
    whole = nearest(points, 4)
    monkeypatch.setattr("edgeflock.export.training.methods.ldlva.CHUNK", 7)
    assert torch.equal(nearest(points, 4), whole)


@KINDS
def test_a_label_that_nobody_shares_becomes_uncertain(kind: type[Ldlva]) -> None:
    of = method(kind, SETTINGS.model_copy(update={"gamma": 0.0}))
    index, v, scores, v_near, scores_near = batch(of, 2)
    of.labels[index] = 0
    scores[:], scores_near[:] = 0, 0
    scores[0, 1], scores_near[0, :, 1] = 5, 5  # the net and all neighbours say 1
    scores[1, 0], scores_near[1, :, 2] = 5, 5  # the net agrees with the label, the neighbours do not
    of(index, v, scores, v_near, scores_near).backward()
    assert of.doubt.grad is not None
    assert of.doubt.grad[index[0]] < 0 < of.doubt.grad[index[1]]  # the descent raises the first, lowers the second
    others = torch.ones(N, dtype=torch.bool)
    others[index] = False
    assert (of.doubt.grad[others] == 0).all()


def test_gradients_are_those_of_finite_differences() -> None:
    of = method()
    index, v, scores, v_near, scores_near = batch(of)
    names = ["centres", *(f"calibration.{name}" for name, _ in of.calibration.named_parameters())]
    learnt = [dict(of.named_parameters())[name].detach().clone().requires_grad_() for name in names]

    def loss(v: torch.Tensor, scores: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(of, given, (index, v, scores, v_near, scores_near))

    assert torch.autograd.gradcheck(loss, (v.requires_grad_(), scores.requires_grad_(), *learnt))


def test_uncertainties_follow_the_classification_alone() -> None:
    of, plain = method(), method(settings=SETTINGS.model_copy(update={"gamma": 0.0}))
    index, *rest = batch(of)
    gradients = [torch.autograd.grad(each(index, *rest), each.doubt)[0] for each in (of, plain)]
    assert torch.equal(*gradients)

    def loss(doubt: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(plain, {"doubt": doubt}, (index, *rest))

    assert torch.autograd.gradcheck(loss, (plain.doubt.detach().clone().requires_grad_(),))


def test_centres_repel_until_they_are_far_apart() -> None:
    assert repulsion(torch.zeros(M, V), V**0.5).item() == pytest.approx(M * (M - 1))
    centres = torch.randn(M, V)
    near, far = (repulsion(scale * centres, V**0.5) for scale in (1, 100))
    assert 0 <= far < 1e-6 < near < M * (M - 1)
    centres.requires_grad_()
    repulsion(centres, V**0.5).backward()
    moved = centres - 0.1 * centres.grad
    assert repulsion(moved, V**0.5) < near


def test_uncertain_samples_are_not_pulled_to_the_centre() -> None:
    of = method()
    index, v, _, v_near, _ = batch(of, 2)
    v.requires_grad_()
    of.discriminative(index, torch.tensor([0.0, 1.0]), v, v_near).backward()
    towards = v.detach()[0] - of.centres.detach()[of.labels[index[0]]]
    assert torch.allclose(v.grad[0], 0.1 * towards / 2) and (v.grad[1] == 0).all()


def test_released_centres_follow_the_codes_own_rule() -> None:
    """pull = -sum(weight (v - mu)) / (count + 1) / B(1 + K), then 0.1 x gradient of the sum over pairs, SGD 0.5."""
    of = method(Released)
    index, v, scores, v_near, scores_near = batch(of)
    before = of.centres.detach().clone()
    everyone = torch.cat([index, of.neighbours[index].flatten()])
    x, y, weight = torch.cat([v, v_near.flatten(0, 1)]), of.labels[everyone], 1 - of.uncertainty[everyone]
    pull = torch.stack(
        [
            -(weight[y == c, None] * (x[y == c] - before[c])).sum(0) / ((y == c).sum() + 1) / len(everyone)
            for c in range(M)
        ]
    )
    pairs = before.clone().requires_grad_()
    sum(torch.exp(-(pairs[i] - pairs[j]).square().sum() / V) for i in range(M) for j in range(i + 1, M)).backward()
    within = (weight * (x - before[y]).square().sum(1)).sum() / 2 / len(everyone)
    value = of.discriminative(index, of.doubt[index].sigmoid(), v, v_near)
    assert value.item() == pytest.approx(0.1 * within.item())

    optimisers = of.optimisers()
    of(index, v, scores, v_near, scores_near).backward()
    for optimiser in optimisers:
        optimiser.step()
    assert torch.allclose(of.centres.detach(), before - 0.5 * (pull + 0.1 * pairs.grad))


def test_released_calibration_has_a_floor() -> None:
    of = method(Released)
    with torch.no_grad():
        of.calibration[-1].bias.fill_(-50)
    _, v, _, v_near, _ = batch(of)
    assert of.log_calibration(v, v_near).exp().min().item() == pytest.approx(0.214, abs=1e-3)


def test_rare_labels_weigh_more_when_balanced() -> None:
    settings = SETTINGS.model_copy(update={"balanced": True})
    of = Ldlva(torch.rand(6, 2), torch.tensor([0, 0, 0, 0, 0, 1]), 2, V, settings)
    assert of.weight.tolist() == pytest.approx([0.6] * 5 + [3.0])


def test_calibration_net_has_the_released_size() -> None:
    assert sum(p.numel() for p in calibration_net(512).parameters()) == 657_921


def test_flipped_labels_are_others_and_as_many_as_asked() -> None:
    labels = np.arange(1000) % 7
    flipped = flip(labels, 7, 0.4, seed=3)
    assert (flipped != labels).sum() == 400 and set(flipped) == set(range(7))
    assert np.array_equal(flip(labels, 7, 0.4, seed=3), flipped)
    assert not np.array_equal(flip(labels, 7, 0.4, seed=4), flipped)
    assert np.array_equal(flip(labels, 7, 0, seed=3), labels)


def test_area_under_roc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert area_under_roc(score, positive) == pytest.approx(np.mean(pairs))


def test_bad_affect_is_named() -> None:
    with pytest.raises(DataError, match="finite numbers for every training sample"):
        nearest(torch.full((9, 2), torch.nan), 3)
    with pytest.raises(DataError, match="8 neighbours need at least 9 training samples, got 8"):
        nearest(torch.rand(8, 2), 8)
