"""The task beside ANTs' SyN: what the table says, and how both are measured."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeflock.export.bench.syn import NOT, SYN, Figures, by_syn, by_task, markdown, syn_bars
from edgeflock.export.datasets.synthetic.phantoms import draw_phantom
from edgeflock.export.datasets.volumes import Volume
from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.prepare.volume import dice
from edgeflock.runtime.tasks.registration import Registration

ORGANS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def bodies() -> list[Volume]:
    """Two phantoms that the net which ships was not trained on."""
    return [Volume(*draw_phantom(seed, 64)) for seed in (101, 102)]


def test_the_table_has_the_mean_of_each_way() -> None:
    rows = [
        Figures(way, pair, score, 0.9, 0.0, 0.2, 1.5) for pair, score in (("a", 0.6), ("b", 0.8)) for way in (NOT, SYN)
    ]
    assert markdown(rows).splitlines()[-1] == "| ANTs SyN | 2 | 0.700 | 0.900 | 0.000% | 0.200 | 1.50 |"


def test_the_net_s_answer_is_measured(bodies: list[Volume]) -> None:
    fixed, moving = bodies
    answer = by_task(Registration(threads=1), fixed, moving)
    assert dice(answer.labels, fixed.labels, ORGANS) > dice(moving.labels, fixed.labels, ORGANS) + 0.05
    assert answer.warped.shape == fixed.image.shape and answer.cpu_s > 0 and answer.folded == 0


def test_syn_s_answer_is_measured(bodies: list[Volume]) -> None:
    ants = pytest.importorskip("ants")
    fixed, moving = bodies
    answer = by_syn(ants, fixed, moving)
    assert dice(answer.labels, fixed.labels, ORGANS) > dice(moving.labels, fixed.labels, ORGANS) + 0.05
    assert answer.cpu_s > 0 and answer.jacobian_std > 0


@pytest.mark.skipif(find_spec("ants") is not None, reason="antspyx is installed")
def test_without_antspyx_the_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"edgeflock\[syn\]"):
        syn_bars([Path("nowhere")])
