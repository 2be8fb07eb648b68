"""From a round's model to what drives: gate, shadow, swap; and nothing changes where one of them refuses."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from edgeflock.calibration.shared import read_shared
from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.fleet.promote import promote
from edgeflock.export.onnx import export_net
from edgeflock.export.recipes.steering import samples
from edgeflock.export.shared_calibration import share_histograms
from edgeflock.runtime.bundle.bundle import read_manifest
from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.bundle.signing import generate_key, read_private_key, read_public_key
from edgeflock.runtime.errors import GateError, InputError
from edgeflock.runtime.fleet.peer.roster import Roster, write_roster
from edgeflock.runtime.fleet.plan.delay import Delays
from edgeflock.runtime.fleet.plan.schedule import plan_of
from edgeflock.runtime.prepare.frame import STEERING_INPUT, crop_200
from edgeflock.runtime.recording.dronet import DronetWriter
from edgeflock.runtime.tasks.shadow import ShadowLimits
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT, SteeringPolicy


def dataset(drawn, angles):
    count = len(drawn)
    return SteeringDataset(drawn, angles, np.zeros(count, np.int32), ["lanes"], [f"{i}.png" for i in range(count)])


@pytest.fixture(scope="module")
def frames(lanes):
    return dataset(*lanes(40, 21)), dataset(*lanes(40, 22))


def shared(net, frames, folder):
    """What robot r2 shares of a net, as another robot reads it."""
    key = read_private_key(folder / "r2.pem")
    save_file(net.state_dict(), folder / "r2.safetensors")
    share_histograms(folder / "r2.safetensors", frames, "lab", "r2", key, folder / "r2.hist", 24)
    return read_shared(folder / "r2.hist", "lab", {"r2": {key.public_key().public_bytes_raw()}})


def test_a_good_model_drives_and_one_that_gate_or_shadow_refuse_does_not(trained, frames, tmp_path):
    validation, calibration = frames
    generate_key(tmp_path / "r1.pem")
    generate_key(tmp_path / "r2.pem")
    driving = DrivingBundle(tmp_path / "driving")

    def take(name, net, worse=0.05, others=()):
        save_file(net.state_dict(), tmp_path / name)
        limits = ShadowLimits.model_construct(
            worse=worse, slower=100
        )  # time is not the point, and the machine may be busy
        return promote(
            tmp_path / name, validation, calibration, tmp_path / "r1.pem", driving, limits=limits, others=others
        )

    first = take("first.safetensors", trained)
    assert first.shadow is None and driving.current.resolve() == first.bundle

    with pytest.raises(GateError, match=r"shadow run refuses .* The one before drives on"):
        take("same.safetensors", trained, worse=-0.1)  # as good as before, where a tenth better is asked for
    with pytest.raises(GateError, match="constant predictor"):
        take("blank.safetensors", type(trained)().eval())
    assert driving.current.resolve() == first.bundle
    assert [path.name for path in (tmp_path / "driving" / "bundles").iterdir()] == [first.bundle.name]

    again = take("again.safetensors", trained)
    assert again.shadow.apart == 0 and again.shadow.frames == 40

    with pytest.raises(InputError, match="of the net"):
        take("shared.safetensors", trained, others=[shared(type(trained)().eval(), calibration, tmp_path)])
    other = shared(trained, calibration, tmp_path)
    mine = take("shared.safetensors", trained, others=[other])
    assert read_manifest(mine.bundle)[0].provenance["calibration"]["others"] == {"r2": 24}


OUT_OF_BOUNDS = ("torch", "onnxscript", "onnxslim", "sklearn", "tensorboard", "ray", "matplotlib")
WALL = f"""
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OUT_OF_BOUNDS}:
            raise ModuleNotFoundError(f"no module named {{name!r}} on this robot", name=name)

if "--multiprocessing-fork" not in sys.orig_argv:  # the learner's process, which multiprocessing starts
    sys.meta_path.insert(0, Wall())
"""


@pytest.fixture(scope="module")
def robot(trained, lanes, tmp_path_factory):
    """A robot without torch: its key, its frames, and `run`, which runs `edgeflock fleet` there."""
    folder = tmp_path_factory.mktemp("robot")
    (folder / "sitecustomize.py").write_text(WALL)
    generate_key(folder / "r1.pem")
    for split, seed in (("train", 22), ("val", 21)):
        with DronetWriter(folder / split / "lanes", {}) as writer:
            for frame, angle in zip(*lanes(40, seed), strict=True):
                writer.add(frame, float(angle), 1.0)

    def run(*words):
        command = [sys.executable, "-m", "edgeflock.runtime.cli", "fleet", *map(str, words)]
        env = {**os.environ, "PYTHONPATH": str(folder)}
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)

    def promote(weights):
        data = ["--data", "val", "--calib", "train", "--key", "r1.pem", "--slower", "100"]
        return run("promote", "driving", "--weights", weights, *data)

    return SimpleNamespace(folder=folder, run=run, promote=promote)


def exported(net, lanes, weights):
    """Write weights and, as a learner does, the graph beside them."""
    made = export_net("fadnet", net, [STEERING_INPUT], [STEERING_OUTPUT], samples(dataset(*lanes(8, 5))))
    save_arrays(made.state, weights)
    weights.with_suffix(".onnx").write_bytes(made.graph())


def test_a_robot_without_torch_promotes_what_its_learner_exported_and_rolls_back(robot, trained, lanes):
    exported(trained, lanes, robot.folder / "first.safetensors")
    exported(trained, lanes, robot.folder / "second.safetensors")
    first = robot.promote("first.safetensors")
    assert first.returncode == 0 and "gate int8" in first.stdout, first.stdout + first.stderr
    driving = DrivingBundle(robot.folder / "driving")
    before = driving.current.resolve()
    manifest, _ = read_manifest(before)
    assert manifest.net == "fadnet" and manifest.provenance["parity"]["samples"] == 8
    policy = SteeringPolicy(before, keys=[robot.folder / "r1.pub"])
    frame = lanes(1, 3)[0][0]
    with torch.inference_mode():
        expected = trained(torch.from_numpy(crop_200(frame))[None, None].float()).item()
    assert policy(frame, "mono8").angle == pytest.approx(expected, abs=0.05)  # INT8

    second = robot.promote("second.safetensors")
    assert second.returncode == 0 and "shadow, 40 frames" in second.stdout, second.stdout + second.stderr
    blank = type(trained)().eval()
    exported(blank, lanes, robot.folder / "blank.safetensors")
    now = driving.current.resolve()
    refused = robot.promote("blank.safetensors")
    assert refused.returncode == GateError.exit_code and driving.current.resolve() == now, refused.stderr
    back = robot.run("rollback", "driving")
    assert back.returncode == 0 and driving.current.resolve() == before, back.stderr


def test_key_and_place_are_checked_before_frames_and_weights_are_read(robot):
    (robot.folder / "broken.safetensors").write_bytes(b"no weights")
    (robot.folder / "taken").touch()
    sets = ["--weights", "broken.safetensors", "--data", "nowhere", "--calib", "nowhere"]
    keyless = robot.run("promote", "driving", *sets, "--key", "none.pem")
    assert keyless.returncode != 0 and "none.pem" in keyless.stderr and "nowhere" not in keyless.stderr
    placeless = robot.run("promote", "taken", *sets, "--key", "r1.pem")
    assert placeless.returncode == InputError.exit_code and "expected a folder to write into" in placeless.stderr


def test_without_torch_and_graph_the_way_out_is_named_and_a_graph_of_other_weights_is_refused(robot, trained, lanes):
    save_file(trained.state_dict(), robot.folder / "alone.safetensors")
    missing = robot.promote("alone.safetensors")
    assert missing.returncode != 0 and "edgeflock[export]" in missing.stderr
    exported(type(trained)().eval(), lanes, robot.folder / "mixed.safetensors")
    save_file(trained.state_dict(), robot.folder / "mixed.safetensors")
    assert "was not made of mixed.safetensors" in robot.promote("mixed.safetensors").stderr


def test_join_promotes_by_itself_with_torch_in_the_learners_process_alone(robot, trained, lanes):
    """The other robot of the plan is away: this one learns on alone."""
    save_file(trained.state_dict(), robot.folder / "start.safetensors")
    fleet_of_two(robot)
    learnt = ["--data", "train", "--val", "val", "--init", "start.safetensors", "--rounds", "2", "--evaluate", "1"]
    quick = [word for one in ("join_s=0.5", "silent_s=1", "lr=1e-6", "floor_s=0.2") for word in ("--set", one)]
    done = robot.run(
        "join", "r1", "--key", "r1.pem", "--roster", "fleet/roster.json", "--plan", "plan.json", "--out", "r1",
        "--peer", "r2=127.0.0.1:9", "--listen", "127.0.0.1:0", "--driving", "drives", "--no-idle", *learnt, *quick,
    )  # fmt: skip
    log = robot.folder / "r1" / "promote.log"
    assert done.returncode == 0 and log.exists(), done.stdout + done.stderr
    assert (robot.folder / "drives" / "current" / "manifest.json").exists(), log.read_text()
    events = [json.loads(line) for line in (robot.folder / "r1" / "events.jsonl").read_text().splitlines()]
    assert any(one["event"] == "driving" and one["bundle"] for one in events)


def fleet_of_two(robot):
    """A fleet of r1 and r2, and a plan for both."""
    generate_key(robot.folder / "r2.pem")
    generate_key(robot.folder / "fleet.pem")
    (robot.folder / "fleet").mkdir()
    roster = Roster.begin("lanes")
    for name in ("r1", "r2"):
        roster = roster.add(name, read_public_key(robot.folder / f"{name}.pub").raw)
    write_roster(robot.folder / "fleet" / "roster.json", roster, read_private_key(robot.folder / "fleet.pem"))
    delays = Delays(1.0, np.array([[0, 1.0], [1.0, 0]]), np.zeros((2, 2)), 0.0)
    (robot.folder / "plan.json").write_text(plan_of(("r1", "r2"), delays, 1).to_json())
