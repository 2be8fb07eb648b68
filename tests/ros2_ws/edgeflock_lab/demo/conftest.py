"""Three robots with a few frames each, and drives whose outcome is known."""

import json

import numpy as np
import pytest

from edgeflock_lab.demo.scene import ALL, HOMES, Folder, Scene, alone, fleet

LABEL = {"r1": 0.1, "r2": -0.1, "r3": 0.2}


@pytest.fixture
def scene():
    return Scene(frames=8, held_out=3, rounds=2, settle=1, steps=1, batch=2, course_m=20)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "demo")


@pytest.fixture
def recorded(scene, folder):
    """The folder after the first stage: frames of noise, labels that differ between robots."""
    from edgeflock.runtime.recording.dronet import DronetWriter

    rng = np.random.default_rng(0)
    for robot in HOMES:
        for split, count in (("train", scene.frames), ("val", scene.held_out)):
            with DronetWriter(folder.data(robot, split) / "home", {"frames": count}) as writer:
                for n in range(count):
                    image = rng.integers(0, 255, (240, 320), np.uint8)
                    writer.add(image, LABEL[robot] + 0.01 * n, 1.0, float(n), 0.0, float(n))
    return folder


@pytest.fixture
def driven(folder):
    """``driven(ways)``: the folder after the last stage; `ways` gives m without collision by (net, home), else 25."""
    from PIL import Image
    from safetensors.numpy import save_file

    def make(ways, net_of=lambda robot: np.zeros(3, np.float32)):
        folder.fleet.mkdir(parents=True)
        folder.transport.write_text("TCP")
        for robot in HOMES:
            folder.net(fleet(robot)).mkdir(parents=True)
            save_file({"w": net_of(robot)}, folder.weights(fleet(robot)))
            others = [other for other in HOMES if other != robot]
            lines = [{"time": 100.0, "event": "joined"}]
            for k in (1, 2):
                links = {other: {"sent_bytes": 1_000_000 * k, "received_bytes": 0, "dropped": {}} for other in others}
                lines.append({"time": 100.0 + k, "event": "mixed", "round": k, "heard": others, "links": links})
            (folder.net(fleet(robot)) / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        for net in (*map(alone, HOMES), *map(fleet, HOMES), ALL):
            for home, world in HOMES.items():
                way = ways.get((net, home), 25.0)
                out = folder.drive(net, home)
                out.mkdir(parents=True)
                record = {
                    "world": world.kind, "seed": world.seed, "duration_s": 26.0, "distance_m": 25.0,
                    "collisions": int(way < 20), "clear_m": way, "clear_s": 26.0 if way >= 20 else way,
                    "lateral_error_m": {"rms": 0.12, "max": 0.3}, "frames": 390, "frames_dropped": 0,
                    "latency_ms": {"p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0},
                    "engine": "onnxruntime-cpu", "precision": "fp32", "bundle_sha256": "ab" * 32,
                }  # fmt: skip
                (out / "drive.json").write_text(json.dumps(record))
                pictures = [Image.new("RGB", (320, 240), (n, 90, 40)) for n in range(0, 240, 20)]
                pictures[0].save(out / "drive.gif", save_all=True, append_images=pictures[1:])
        return folder

    return make
