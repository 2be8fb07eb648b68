"""The bar on other mounts: real worlds, the bundle that ships, and a table that says which bar is missed."""

import json

import pytest
from rich.console import Console

pytest.importorskip("mujoco")

from edgeflock.runtime.tasks.steering import SteeringPolicy
from edgeflock_lab import mount_bars
from edgeflock_lab.mount_bars import FAR_OFF, KINDS, MOUNTS, Driven, Seen
from fadnet_sim.rollout import Rollout


def test_a_camera_far_from_the_trained_one_is_told_apart_only_in_the_view(monkeypatch, tmp_path):
    monkeypatch.setattr(mount_bars, "MOUNTS", {FAR_OFF: MOUNTS[FAR_OFF]})
    monkeypatch.setattr(mount_bars, "KINDS", ("outdoor",))
    monkeypatch.setattr(mount_bars, "DRIVES", [("outdoor", 100)])
    console = Console(quiet=True)
    seen, driven = mount_bars.measure(lambda: SteeringPolicy(precision="int8"), console, poses=10, drive_s=0.5)
    assert seen[0].frames == 20 and seen[0].canonical > 0.9 > seen[0].as_is + 0.2
    assert driven[0].canonical.collisions == 0 and driven[0].canonical.distance_m > 0.1
    page = mount_bars.write(tmp_path, seen, driven, SteeringPolicy(precision="int8"))
    assert json.loads((tmp_path / "mounts.json").read_text())["drives"][0]["seed"] == 100
    assert (tmp_path / "mounts.md").read_text() == page


@pytest.mark.parametrize(
    ("r", "collisions", "rms", "verdicts"),
    [(0.8, 0, 0.25, "met met"), (0.79, 0, 0.1, "missed met"), (0.9, 1, 0.1, "met missed"), (0.9, 0, 0.3, "met missed")],
)
def test_the_table_says_which_bar_is_missed(r, collisions, rms, verdicts):
    seen = [Seen(mount, kind, 60, 0.1, r) for mount in MOUNTS for kind in KINDS]
    drive = Rollout(19.0, collisions, rms, 0.5)
    page = mount_bars.markdown(seen, [Driven("indoor", 100, drive, drive)])
    first, second = verdicts.split()
    assert f"everywhere: {first} (least {r:.2f}" in page and f"RMS of at most 0.25 m: {second}" in page
    assert page.count("| 0.10 |") == len(KINDS) * len(MOUNTS)
