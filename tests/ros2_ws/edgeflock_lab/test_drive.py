"""`edgeflock drive` from the command line: real nodes, real middleware, real physics, small images and short drives."""

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from edgeflock.export.cli import export_app
from edgeflock.runtime.bundle.bundle import Artefact, Manifest, generate_key, sign_bundle, write_bundle
from edgeflock.runtime.errors import BundleError, CameraError, EdgeflockError, EngineError, FileError, InputError
from edgeflock.runtime.mount import Mount, write_mount
from edgeflock.runtime.prepare.frame import STEERING_INPUT
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT
from edgeflock_lab.drive import DriveOptions, drive_world, node_list, parse_size, run_drive
from edgeflock_lab.drive_bars import markdown, parse_worlds
from edgeflock_lab.drive_record import DriveRecord, LatencyPercentiles, LateralError
from edgeflock_lab.monitor import steering_bar
from edgeflock_lab.supervisor import Supervisor, free_domain
from fadnet_sim.rollout import Rollout
from fadnet_sim.world import make_world

SMALL = ["--size", "160x120"]
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home that trusts the key `test.pem`."""
    home = tmp_path_factory.mktemp("home")
    keys = home / ".config/edgeflock/keys"
    keys.mkdir(parents=True)
    generate_key(keys / "test.pem")
    return home


@pytest.fixture(scope="module")
def constant(home, tmp_path_factory):
    """``constant(angle)``: a signed bundle whose net answers `angle` to every frame."""
    onnx = pytest.importorskip("onnx")
    from safetensors.numpy import save

    def make(angle):
        helper, number = onnx.helper, onnx.TensorProto.FLOAT
        weights = [onnx.numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("w", [[0]]), ("b", [angle]))]
        nodes = [
            helper.make_node("GlobalAveragePool", ["image"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w", "b"], ["steering"]),
        ]
        image = helper.make_tensor_value_info("image", number, [1, 1, 200, 200])
        steering = helper.make_tensor_value_info("steering", number, [1, 1])
        graph = helper.make_graph(nodes, "constant", [image], [steering], weights)
        net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        vectors = {"image": np.zeros((1, 1, 200, 200), np.float32), "steering_fp32": np.full((1, 1), angle, np.float32)}
        fp32 = Artefact(file="net.onnx", opset=17, ir=8)
        manifest = Manifest(
            name="constant",
            net="constant",
            task="steering",
            inputs=[STEERING_INPUT],
            outputs=[STEERING_OUTPUT],
            artefacts={"fp32": fp32},
            default_precision="fp32",
        )
        files = {"net.onnx": net.SerializeToString(), "vectors.safetensors": save(vectors)}
        folder = write_bundle(tmp_path_factory.mktemp("bundle") / "constant", manifest, files)
        return sign_bundle(folder, home / ".config/edgeflock/keys/test.pem")

    return make


@contextlib.contextmanager
def drives(home, folder):
    """``start(*arguments)`` starts the command in `folder`; the report goes to its folder report."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "edgeflock.runtime.cli", "drive", "--out", str(folder / "report")]
        environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"} | {"HOME": str(home)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, *map(str, arguments)], env=environment, cwd=folder, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def drive(home, tmp_path):
    with drives(home, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def twins(home, constant, tmp_path_factory):
    """One drive in lock-step, and the same again beside it: folder, process, what it printed; then the other record."""
    folder, bundle = tmp_path_factory.mktemp("twins"), constant(0.0)
    options = ["--seed", 100, "--duration", 2, "--lockstep", "--bundle", bundle, *SMALL]
    with drives(home, folder) as start:
        one = start(*options, "--json", "runs/out.json")
        two = start(*options, "--out", folder / "two")
        out, err = one.communicate(timeout=300)
        assert (one.returncode, two.wait(300)) == (0, 0), out + err
    return SimpleNamespace(folder=folder, bundle=bundle, process=one, out=out, two=folder / "two" / "drive.json")


def nodes_of(pid):
    return [p for p in psutil.process_iter(["cmdline"]) if f"__ns:=/run_{pid}" in (p.info["cmdline"] or [])]


def test_drives_in_lock_step_and_reports(twins):
    record = DriveRecord.model_validate_json((twins.folder / "runs/out.json").read_text())
    assert (record.world, record.seed, record.duration_s, record.collisions) == ("indoor", 100, 2.0, 0)
    assert (record.frames, record.frames_dropped) == (60, 0)
    assert 1.0 < record.distance_m < 2.0  # from rest at 1 m/s^2 to 1 m/s
    assert 0 < record.lateral_error_m.rms <= record.lateral_error_m.max < 0.3
    assert 0 < record.latency_ms.p50 <= record.latency_ms.p99 <= record.latency_ms.max
    assert record.engine.startswith("onnxruntime") and record.precision == "fp32" and len(record.bundle_sha256) == 64

    report = twins.folder / "report"
    assert {p.name for p in report.iterdir()} == {
        "drive.json", "report.html", "trajectory.png", "latency.png", "drive.gif", "drive.png", "logs",
    }  # fmt: skip
    assert {p.stem for p in (report / "logs").iterdir()} == {"base", "camera", "steering", "guard"}
    assert (report / "drive.gif").stat().st_size < 3e6
    assert json.loads((report / "drive.json").read_text()) == record.model_dump()
    assert "lateral error RMS" in twins.out and "report.html" in twins.out
    launch = f"next: ros2 launch fadnet_nav fadnet_nav.launch.py camera:=realsense bundle:={twins.bundle}"
    assert twins.out.splitlines()[-1] == launch
    assert not nodes_of(twins.process.pid)


def test_two_drives_side_by_side_are_the_same_drive_in_lock_step(twins):
    one, two = (json.loads(path.read_text()) for path in (twins.folder / "report/drive.json", twins.two))
    assert one | {"latency_ms": None} == two | {"latency_ms": None}


@pytest.fixture
def pilot(home, tmp_path, monkeypatch):
    """Bundle of somebody's own net, which steers 17 degrees to the right, exported as in examples/05."""
    torch = pytest.importorskip("torch")
    shutil.copy(EXAMPLES / "05-own-net/pilot.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    from pilot import build

    state = build().state_dict()
    state["layers.15.bias"][:] = -17
    torch.save(state, "best.pth")
    np.savez("val.npz", image=np.random.default_rng(0).integers(0, 256, (6, 66, 200, 3), np.uint8))
    words = "net pilot:build --weights best.pth --size 200x66 --task steering --angle-scale 0.0174533 --val val.npz"
    key = home / ".config/edgeflock/keys/test.pem"
    CliRunner().invoke(export_app, [*words.split(), f"--key={key}", "--out=own"], catch_exceptions=False)
    return tmp_path / "own"


def test_a_net_of_ones_own_drives_and_its_collision_ends_with_3_and_is_in_the_report(drive, pilot, tmp_path):
    # Off the road there is nothing that the guard could see: only the map knows.
    options = ["--world", "outdoor", "--seed", 100, "--duration", 3, "--lockstep", "--bundle", pilot]
    process = drive(*options, *SMALL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert json.loads((tmp_path / "report/drive.json").read_text())["collisions"] >= 1
    assert "Collision" in (tmp_path / "report/report.html").read_text()


def test_looks_through_a_realsense_recording_until_it_ends(drive, constant, record_realsense, tmp_path):
    rng = np.random.default_rng(5)
    far = np.full((120, 160), 4000, np.uint16)
    record_realsense(tmp_path / "run.db3", [(rng.integers(0, 256, (120, 160, 3), np.uint8), far) for _ in range(60)])
    process = drive("--source", tmp_path / "run.db3", "--bundle", constant(0.1))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    record = json.loads((tmp_path / "report/drive.json").read_text())
    assert [record[k] for k in ("world", "seed", "distance_m", "collisions")] == [None] * 4
    assert record["lateral_error_m"] == {"rms": None, "max": None}
    assert record["frames_dropped"] < record["frames"] <= 60  # a busy machine drops some
    assert record["latency_ms"]["p50"] > 0
    assert "no wheels are connected" in out
    assert not (tmp_path / "report/trajectory.png").exists()


def test_ctrl_c_still_writes_the_report_and_leaves_nobody_behind(drive, constant, tmp_path):
    process = drive("--seed", 100, "--duration", 600, "--bundle", constant(0.0), *SMALL)
    assert "All nodes are up" in [process.stdout.readline() for _ in range(2)][1]
    time.sleep(1.0)  # to have driven for a while
    assert len(nodes_of(process.pid)) == 4
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    record = json.loads((tmp_path / "report/drive.json").read_text())
    assert 0 < record["duration_s"] < 500 and record["frames"] > 0
    assert not nodes_of(process.pid)


def test_a_node_that_cannot_start_ends_the_drive_with_its_words_and_its_code(drive, constant):
    process = drive("--duration", 3, "--bundle", constant(0.0), "--engine", "onnxruntime-qnn", *SMALL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 9, out + err  # EngineError
    assert "steering" in err and "onnxruntime-qnn takes int8-qnn" in err


def test_a_bundle_that_does_not_verify_is_refused_before_anything_starts(drive, constant, tmp_path):
    bundle = constant(0.0)
    (bundle / "net.onnx").unlink()
    process = drive("--duration", 3, "--bundle", bundle, *SMALL)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 11 and "net.onnx is listed" in err and not (tmp_path / "report").exists()


def test_a_recording_that_cannot_be_read_ends_the_drive_in_one_line_with_the_cameras_code(drive, constant, tmp_path):
    (tmp_path / "run.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(99))
    process = drive("--source", tmp_path / "run.mcap", "--bundle", constant(0.1))
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 16
    assert err.startswith("edgeflock: expected a whole bag") and "`mcap recover" in err and err.count("\n") == 1


# ---- what needs no drive


def test_lock_step_needs_a_world(drive, tmp_path):
    process = drive("--lockstep", "--source", "realsense")
    assert "--source sim" in process.communicate(timeout=120)[1]
    assert process.returncode == 5
    assert not (tmp_path / "report").exists()


def test_a_size_and_a_list_of_worlds_are_checked():
    assert parse_size("640x480") == (640, 480)
    assert parse_worlds("indoor:100, outdoor:2,tape:7") == [("indoor", 100), ("outdoor", 2), ("tape", 7)]
    for wrong in ("640", "axb", "640x", "0x0", "15x480", "640x1081", "²x480"):
        with pytest.raises(InputError, match="640x480"):
            parse_size(wrong)
    for wrong in ("moon:1", "indoor", "indoor:x", "indoor:²", f"indoor:{10**20}", ""):
        with pytest.raises(InputError, match="kind:seed"):
            parse_worlds(wrong)


def test_the_guard_knows_how_this_worlds_robot_wears_its_camera():
    world = make_world("indoor", 4)
    nodes = node_list(DriveOptions(out=Path("x"), seed=4, speed=0.7, lockstep=True), world)
    assert list(nodes) == ["base", "steering", "guard", "camera"]
    module, guard = nodes["guard"]
    assert module == "fadnet_nav.guard_node"
    assert (guard["camera_height"], guard["camera_pitch"]) == (world.look.height, world.look.pitch)
    assert (guard["speed"], guard["use_sim_time"]) == (0.7, True)
    assert nodes["steering"][1].items() >= world.look.mount.parameters.items()
    assert "use_sim_time" not in nodes["base"][1]


def test_a_camera_that_was_asked_for_reaches_everyone_who_looks_through_it():
    options = DriveOptions(out=Path("x"), camera_height=0.25, camera_pitch=20, camera_fov=65)
    world = drive_world(options)
    assert "0.25000" in world.mjcf and 'fovy="65.000000"' in world.mjcf
    nodes = {name: parameters for name, (_, parameters) in node_list(options, world).items()}
    for name in ("camera", "guard", "steering"):
        assert (nodes[name]["camera_height"], nodes[name]["camera_pitch"]) == (0.25, pytest.approx(math.radians(20)))
    assert nodes["camera"]["camera_fovy"] == pytest.approx(math.radians(65))
    as_is = node_list(options.model_copy(update={"as_is": True}), world)
    assert "camera_height" not in as_is["steering"][1] and as_is["guard"][1]["camera_height"] == 0.25


def test_the_mount_of_a_real_camera_comes_from_its_file_and_not_from_the_options_of_the_simulation(tmp_path):
    mount = Mount(height=0.2, pitch=0.1)
    write_mount(tmp_path / "mount.yaml", mount)
    options = DriveOptions(out=tmp_path / "report", source="realsense", mount=tmp_path / "mount.yaml")
    nodes = node_list(options, None)
    assert nodes["steering"][1].items() >= mount.parameters.items() <= nodes["guard"][1].items()
    with pytest.raises(InputError, match="--camera-pitch: of the simulated camera only"):
        run_drive(options.model_copy(update={"mount": None, "camera_pitch": 3.0}), Console())
    with pytest.raises(InputError, match="--mount is of a real camera"):
        run_drive(options.model_copy(update={"source": "sim"}), Console())


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ROS_DOMAIN_ID", "300", "expected ROS_DOMAIN_ID as a number from 0 to 232, got '300'"),
        ("ROS_DOMAIN_ID", "seven", "got 'seven'"),
        (
            "RMW_IMPLEMENTATION",
            "rmw_nobody_cpp",
            "=rmw_nobody_cpp, got no library .*unset RMW_IMPLEMENTATION",
        ),
    ],
)
def test_an_environment_that_ros_would_die_of_is_refused(monkeypatch, tmp_path, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=message):
        run_drive(DriveOptions(out=tmp_path / "report"), Console())
    assert not (tmp_path / "report").exists()


def test_paths_that_cannot_be_used_are_refused_before_anything_starts(tmp_path):
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(InputError, match=r"expected a folder to write into, got the file .*best.safetensors"):
        run_drive(DriveOptions(out=tmp_path / "best.safetensors"), Console())
    with pytest.raises(InputError, match=r"best.safetensors is read by this command and would be overwritten"):
        run_drive(
            DriveOptions(
                out=tmp_path / "report",
                source=str(tmp_path / "best.safetensors"),
                json_file=tmp_path / "best.safetensors",
            ),
            Console(),
        )
    with pytest.raises(FileError, match=r"cannot write /proc/new\.json"):
        run_drive(DriveOptions(out=tmp_path / "report", json_file=Path("/proc/new.json")), Console())
    options = DriveOptions(out=tmp_path / "report", bundle=tmp_path / "best.safetensors")
    with pytest.raises(BundleError, match=r"got weights .*best.safetensors: `edgeflock export steering --weights"):
        run_drive(options, Console())


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("precision", "int3", InputError, "has no precision 'int3'"),
        ("engine", "onnx", EngineError, "there is no engine 'onnx', only onnxruntime-cpu"),
        ("source", "nowhere.mp4", CameraError, "nowhere.mp4"),
        ("source", "notes.txt", CameraError, "notes.txt"),
        ("source", "empty", CameraError, "empty"),
    ],
)
def test_what_no_node_could_open_is_refused_before_anything_starts(
    monkeypatch, tmp_path, option, value, error, message
):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no video")
    Path("empty").mkdir()
    with pytest.raises(error, match=message):
        run_drive(DriveOptions(out=tmp_path / "report", **{option: value}), Console())
    assert not (tmp_path / "report").exists()


def test_the_keys_to_trust_reach_the_steering(tmp_path):
    options = DriveOptions(out=Path("x"), keys=(tmp_path / "a.pub", tmp_path / "b.pub"), source="realsense")
    assert node_list(options, None)["steering"][1]["keys"] == f"{tmp_path / 'a.pub'}:{tmp_path / 'b.pub'}"


def test_the_topics_of_a_bag_reach_the_camera_and_nothing_else_takes_them(write_bag, tmp_path):
    red = np.zeros((24, 32, 3), np.uint8)
    bag = write_bag(tmp_path / "bag", [("/front", 1, ("rgb8", red)), ("/rear", 1, ("rgb8", red))])
    options = DriveOptions(out=Path("x"), source=str(bag), image_topic="/rear", depth_topic="/depth")
    camera = node_list(options, None)["camera"][1]
    assert (camera["topic"], camera["depth_topic"]) == ("/rear", "/depth")
    (tmp_path / "run.mp4").touch()
    with pytest.raises(InputError, match="name topics of a bag"):
        node_list(DriveOptions(out=Path("x"), source=str(tmp_path / "run.mp4"), image_topic="/rear"), None)


def test_a_recording_without_depth_does_not_stop_the_guard(tmp_path):
    (tmp_path / "run.mp4").touch()
    nodes = node_list(DriveOptions(out=Path("x"), source=str(tmp_path / "run.mp4")), None)
    assert nodes["guard"][1]["require_depth"] is False
    assert nodes["camera"][1]["source"] == "video"
    assert "base" not in nodes


@pytest.mark.parametrize(("rms", "verdict"), [(0.1, "met."), (0.11, "missed in indoor 100.")])
def test_the_table_of_bars_says_whether_they_are_met(rms, verdict):
    record = DriveRecord(
        world="indoor", seed=100, duration_s=60, distance_m=58.2, collisions=0, clear_m=58.2, clear_s=60, frames=1800,
        frames_dropped=0, lateral_error_m=LateralError(rms=rms, max=0.4), latency_ms=LatencyPercentiles(), engine="e",
        precision="int8", bundle_sha256="ab",
    )  # fmt: skip
    page = markdown([(record, Rollout(distance_m=5.0, collisions=0, lateral_rms_m=0.02, lateral_max_m=0.05))])
    assert f"| indoor | 100 | 60 s, 58.2 m | 0 | {rms:.3f} m | 0.400 m | 0.020 m | 0.050 m | 0 of 1800 |" in page
    assert f"0.10 m indoor, 0.04 m outdoor, 0.08 m tape: {verdict}" in page


def test_the_steering_bar_points_to_the_side():
    assert steering_bar(0.3).plain.index("━") < steering_bar(0.3).plain.index("┃")
    assert steering_bar(-0.3).plain.index("━") > steering_bar(-0.3).plain.index("┃")
    assert steering_bar(float("nan")).plain == "not a number"


def test_a_domain_in_use_is_not_taken():
    first = free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 7410 + 250 * first))
        assert free_domain() != first


def test_a_process_that_ends_is_noticed_with_its_last_words(tmp_path):
    with Supervisor(tmp_path) as nodes:
        nodes.start("quick", "this", [])  # the standard library's zen: prints, and ends with 0
        nodes.processes["quick"].wait(60)
        with pytest.raises(EdgeflockError, match=r"quick ended with code 0(.|\n)*honking great idea") as caught:
            nodes.check()
        assert caught.value.exit_code == 1


def test_nodes_die_with_a_drive_that_is_killed(tmp_path):
    script = (
        "import pathlib, time; from edgeflock_lab.supervisor import Supervisor\n"
        f"with Supervisor(pathlib.Path({str(tmp_path)!r})) as nodes:\n"
        "    nodes.start('server', 'http.server', ['0'])\n"
        "    print(nodes.processes['server'].pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs([child], timeout=60)[1]
