"""The bar in worlds that others drew: their archive is known by its digest, and the table says what is met."""

import io
import json
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("mujoco")

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.tasks.steering import SteeringPolicy
from edgeflock_lab import foreign_bars
from edgeflock_lab.foreign_bars import DATA, PHOTOS, SOURCES, Foreign, Place, markdown
from edgeflock_lab.foreign_packages import ARCHIVE, duckietown_archive, miniworld_folder
from fadnet_sim import miniworld
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
    source = replace(SOURCES["duckietown"], poses=3, places=lambda: foreign_bars.duckietown_places(archive))
    policy = SteeringPolicy(precision="int8")
    rows = foreign_bars.measure(source, policy, Console(quiet=True), drive_s=0.2)
    assert [(row.world, len(row.angles)) for row in rows] == [("small_loop", 3), ("small_loop, backwards", 3)]
    assert all(row.expert.collisions == 0 and 0 < row.net.distance_m < 0.3 for row in rows)
    page = foreign_bars.write(tmp_path, "duckietown", rows, policy)
    assert page == (tmp_path / "foreign-duckietown.md").read_text()
    assert json.loads((tmp_path / "foreign-duckietown.json").read_text())["drives"][1]["world"].endswith("backwards")


def test_another_renderer_shows_the_net_what_it_drives_by():
    world, _ = miniworld.build(1, 3.25)
    seen = []

    def view(x, y, yaw, index):
        seen.append((x, y, index))
        return np.full((480, 640, 3), 90, np.uint8)

    source = replace(SOURCES["miniworld"], poses=2, places=lambda: iter([Place("a", world, view)]))
    (row,) = foreign_bars.measure(source, SteeringPolicy(precision="int8"), Console(quiet=True), drive_s=0.1)
    assert len(row.angles) == 2 and [index for *_, index in seen] == [0, 1, 0, 1, 2]
    assert seen[2][:2] == pytest.approx(tuple(world.path.points[0]), abs=1e-6)


def test_another_archive_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path))
    kept = tmp_path / "foreign" / ARCHIVE
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"another")
    with pytest.raises(EdgeflockError, match=r"expected SHA-256 0300dc.*remove it"):
        duckietown_archive()


@pytest.mark.parametrize(
    ("fetch", "way_out"),
    [
        (duckietown_archive, f"put {ARCHIVE} into "),
        (miniworld_folder, "run `pip install --no-deps --target miniworld-"),
    ],
)
def test_where_there_is_no_package_index_the_way_out_is_named(monkeypatch, tmp_path, fetch, way_out):
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EdgeflockError, match=rf"(?s)pip says: .*{way_out}.*{tmp_path}/foreign"):
        fetch()
    assert list((tmp_path / "foreign").iterdir()) == []


@pytest.mark.parametrize(
    ("collisions", "answer", "frames", "drives"),
    [(0, 0.9, "met", "met (2)"), (1, 0.9, "met", "missed (1)"), (0, 0.2, "missed", "met (2)")],
)
def test_the_table_says_which_bar_is_missed(collisions, answer, frames, drives):
    angles = [(wanted, answer * wanted) for wanted in (-0.2, -0.1, 0.1, 0.2)]
    stays, other = Rollout(39.0, 0, 0.05, 0.1), Rollout(8.0, collisions, 0.4, 1.3)
    source = replace(SOURCES["duckietown"], whole=2)
    page = markdown(source, [Foreign("a", stays, stays, angles), Foreign("b", other, stays, angles)])
    assert f"| b | 8.0 m | {'no' if collisions else 'yes'} | 0.400 m | 39.0 m | yes | 0.050 m |" in page
    assert f"Bar: at most 0.45: {frames}. 2 of 2 drives to the end: {drives}." in page
