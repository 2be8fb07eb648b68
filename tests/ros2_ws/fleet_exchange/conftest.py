"""A fleet of three robots: keys, roster, plan, and frames of a lane, each robot's from other curves."""

import numpy as np
import pytest

NAMES = ("r1", "r2", "r3")
CURVES = {"r1": (-0.45, -0.15), "r2": (-0.15, 0.15), "r3": (0.15, 0.45), "all": (-0.45, 0.45)}
"""Steering angles in the frames of each, rad."""


def write_frames(folder, curves, number, seed):
    """Synthetic 200x200 frames with a bright lane whose place tells the angle, as the FADNet authors' npz."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(*curves, number).astype(np.float32)
    lane = np.exp(-(((np.arange(200) - 99.5) / 100 + 1.5 * angles[:, None]) ** 2) / 0.02)
    frames = 50 + 120 * lane[:, None, None, :] + rng.normal(0, 8, (number, 1, 200, 200))
    folder.mkdir(parents=True)
    np.savez(folder / "0.npz", imgs=frames.clip(0, 255).astype(np.float32), ground_truths=angles)


class Fleet:
    """Files of the fleet, and its nodes' parameters."""

    def __init__(self, folder):
        from edgeflock.runtime.bundle.signing import generate_key, read_private_key
        from edgeflock.runtime.fleet.peer.roster import Roster, write_roster
        from edgeflock.runtime.fleet.plan.schedule import make_plan

        self.folder = folder
        generate_key(folder / "fleet.pem")
        roster = Roster.begin("lab")
        for seed, name in enumerate(NAMES):
            roster = roster.add(name, generate_key(folder / f"{name}.pem").raw)
            write_frames(folder / name, CURVES[name], 32, seed)
        write_frames(folder / "val", CURVES["all"], 24, 9)
        write_roster(folder / "roster.json", roster, read_private_key(folder / "fleet.pem"))
        plan = make_plan(NAMES, np.array([[0, 3, 9], [3, 0, 4], [9, 4, 0.0]]), 1, "mst")
        (folder / "plan.json").write_text(plan.to_json())

    def parameters(self, name, out="runs", settings="", **changed):
        """Parameters of a robot's node: small batches, no augmentation, quick signs of life, as urgent as the test."""
        own = {
            "robot": name, "key": self.folder / f"{name}.pem", "roster": self.folder / "roster.json",
            "plan": self.folder / "plan.json", "out": self.folder / out / name, "data": self.folder / name,
            "val": self.folder / "val", "idle": False,
            "settings": f"batch=4 augment=false bf16=false beat_s=0.3 silent_s=6 {settings}".strip(),
        }  # fmt: skip
        return own | changed


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("zstandard")
    return Fleet(tmp_path_factory.mktemp("fleet"))
