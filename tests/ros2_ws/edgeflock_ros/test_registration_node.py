"""The registration node over the real middleware: scans by path and content, one at work and one waiting, cancel."""

import array
import gzip
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("edgeflock_msgs.action", reason="edgeflock_msgs has to be compiled (.ci/messages)")
pytest.importorskip("nibabel")

import nibabel as nib
import rclpy
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from edgeflock_msgs.action import Register
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.executors import MultiThreadedExecutor
from sensor_msgs.msg import Image

from edgeflock_ros.registration_node import RegistrationNode

SHAPE = (10, 12, 9)
AFFINE = np.diag([2.0, 2, 3, 1])
MAX_BYTES = 100_000


class Goal:
    """A goal that was sent: its feedback, and its end."""

    def __init__(self, graph, client, fields):
        self._graph, self.stages = graph, []
        sent = client.send_goal_async(Register.Goal(**fields), lambda message: self.stages.append(message.feedback))
        assert graph.until(sent.done)
        self.handle = sent.result()
        assert self.handle.accepted
        self._end = self.handle.get_result_async()

    def reached(self, stage):
        return self._graph.until(lambda: stage in [feedback.stage for feedback in self.stages])

    def cancel(self):
        cancelled = self.handle.cancel_goal_async()
        assert self._graph.until(cancelled.done) and cancelled.result().goals_canceling

    @property
    def over(self):
        return self._end.done()

    @property
    def end(self):
        """Status and result."""
        assert self._graph.until(self._end.done), self.stages
        return self._end.result().status, self._end.result().result


class Served:
    """The node with a net that answers every pair with one shift, in this process so that a test can hold it."""

    def __init__(self, graph, bundle, key):
        given = {"bundle": bundle, "keys": key.with_suffix(".pub"), "max_bytes": MAX_BYTES}
        arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=int(graph.env["ROS_DOMAIN_ID"]))
        self.node = RegistrationNode()
        self.executor = MultiThreadedExecutor(2)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()
        self.graph = graph
        self.client = ActionClient(graph.node, Register, "registration")
        assert self.client.wait_for_server(60)

    def send(self, **fields):
        return Goal(self.graph, self.client, fields)

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.graph.call(ChangeState, "/registration/change_state", request).success

    def stop(self):
        self.client.destroy()
        self.executor.shutdown()
        self.thread.join(60)
        self.node.close()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture(scope="module")
def served(shared_graph, shift_bundle_folder, key):
    served = Served(shared_graph, shift_bundle_folder, key)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Paths of fixed, moving, and their segmentations."""
    folder, ball = tmp_path_factory.mktemp("scans"), np.zeros(SHAPE, np.int16)
    ball[3:7, 4:9, 2:6] = 1
    noise = np.random.default_rng(0).integers(0, 40, SHAPE).astype(np.int16)
    volumes = {"fixed": 800 * ball, "moving": 700 * ball + noise, "labels": ball, "fixed_labels": ball}
    for name, volume in volumes.items():
        nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"{name}.nii.gz")
    return {name: str(folder / f"{name}.nii.gz") for name in volumes}


@pytest.fixture
def held(served, monkeypatch):
    """The net answers when `go` is set."""
    go, run = threading.Event(), served.node._task.run
    monkeypatch.setattr(served.node._task, "run", lambda: go.wait(120) and run())
    yield go
    go.set()


def content(path):
    return array.array("B", Path(path).read_bytes())


def read(content):
    return nib.Nifti1Image.from_bytes(gzip.decompress(content.tobytes()))


def test_contents_come_back_as_contents_with_figures_stages_and_slices(served, scans):
    shown = served.graph.listen(Image, "/registration/slices")
    assert served.graph.until(lambda: served.node._slices.get_subscription_count())
    goal = served.send(**{f"{name}_content": content(path) for name, path in scans.items()})
    status, result = goal.end
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    voxels = np.array([1, -2, 0.5]) * np.array(SHAPE) / 16
    field = read(result.flow).get_fdata()
    np.testing.assert_allclose(field[3, 4, 5, 0], voxels * [2, 2, 3], rtol=1e-5)
    assert read(result.warped).shape == read(result.warped_labels).shape == SHAPE
    report = json.loads(result.report)
    assert list(result.correlation) == [report["correlation"][when] for when in ("before", "after")]
    assert result.dice[0] == 1 and result.dice[1] == report["dice"]["after"] < 1
    assert (result.folded, result.jacobian_std) == (0, 0) and result.jacobian_min == result.jacobian_max == 1
    assert 0 < result.net_ms < result.field_ms and result.waiting_ms >= 0
    assert served.graph.until(lambda: len(goal.stages) == 3 and len(shown) == 2)
    assert [feedback.stage for feedback in goal.stages] == ["reading", "registering", "writing"]
    assert [feedback.fraction for feedback in goal.stages] == pytest.approx([0, 1 / 3, 2 / 3])
    image = shown[-1][1]
    assert (image.encoding, image.height, image.width) == ("mono8", 12, 12 + 10 + 10)
    assert len(image.data) == image.height * image.width


def test_paths_come_back_as_files_on_the_node_s_machine(served, scans, tmp_path):
    status, result = served.send(**scans, window=[-10.0, 810.0], out=str(tmp_path / "out")).end
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"warped.nii.gz", "flow.nii.gz", "warped_labels.nii.gz", "report.json"}
    assert not result.flow and not result.report and result.net_ms > 0
    assert json.loads((tmp_path / "out/report.json").read_text())["window"]["high"] == 810


def test_what_cannot_be_registered_is_aborted_with_the_way_out(served, scans, tmp_path):
    fixed, moving = scans["fixed"], scans["moving"]
    saved = {name: str(tmp_path / f"{name}.nii.gz") for name in ("series", "large", "half")}
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.uint8), AFFINE), saved["series"])
    nib.save(nib.Nifti1Image(np.arange(24**3, dtype=np.int16).reshape(24, 24, 24), AFFINE), saved["large"])
    (tmp_path / "half.nii.gz").write_bytes(content(moving)[:-50].tobytes())
    pair = {"fixed": fixed, "moving": moving}
    for fields, words in (
        ({"fixed": fixed}, "moving: expected a scan, its path or its content, got neither"),
        ({"fixed": fixed, "moving": "moving.nii.gz"}, "moving: expected a path from the root"),
        ({"fixed": fixed, "moving": "/nowhere.nii.gz"}, "/nowhere.nii.gz: expected a NIfTI file"),
        ({**pair, "moving_content": content(moving)}, "moving: expected a path or a content, got both"),
        ({"fixed": fixed, "moving_content": array.array("B", b"no gzip")}, "moving_content: expected a .nii.gz file"),
        ({"fixed": fixed, "moving_content": array.array("B", b"\x1f\x8b" * MAX_BYTES)}, "at most 100,000 bytes"),
        ({"fixed": fixed, "moving_content": content(saved["half"])}, "expected a whole NIfTI file"),
        ({"fixed": saved["series"], "moving": saved["series"]}, "take one time step"),
        ({"fixed": fixed, "moving": saved["large"]}, "has the shape (10, 12, 9)"),
        ({"fixed": saved["large"], "moving": saved["large"]}, "out: expected a folder for a field of 165,888 bytes"),
        ({**pair, "fixed_labels": scans["fixed_labels"]}, "send labels, too"),
        ({**pair, "window": [5.0]}, "window: expected two intensities or none, got 1"),
        ({**pair, "window": [5000.0, 6000.0]}, "no voxel lies within the window"),
        ({**pair, "out": "out"}, "out: expected a path from the root, got out"),
        ({**pair, "out": str(served.node._task.bundle.path / "new")}, "lies in"),
    ):
        status, result = served.send(**fields).end
        assert status == GoalStatus.STATUS_ABORTED and words in result.message, (fields, result.message)


def test_one_waits_a_third_is_refused_and_who_waits_is_answered_next(served, held, scans):
    pair = {name: scans[name] for name in ("fixed", "moving")}
    first = served.send(**pair)
    assert first.reached("registering")
    second = served.send(**pair)
    assert second.reached("waiting")
    status, result = served.send(**pair).end
    assert status == GoalStatus.STATUS_ABORTED and "one goal is worked on and one waits" in result.message
    assert not first.over and not second.over
    held.set()
    for goal in (first, second):
        status, result = goal.end
        assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    assert result.waiting_ms > 0


def test_a_cancelled_goal_ends_at_once_where_it_waits_and_else_before_its_next_stage(served, held, scans, tmp_path):
    pair = {name: scans[name] for name in ("fixed", "moving")}
    first = served.send(**pair, out=str(tmp_path / "out"))
    assert first.reached("registering")
    second = served.send(**pair)
    assert second.reached("waiting")
    second.cancel()
    assert second.end[0] == GoalStatus.STATUS_CANCELED and not first.over
    third = served.send(**pair)
    assert third.reached("waiting"), "its place is free again"
    first.cancel()
    held.set()
    assert first.end[0] == GoalStatus.STATUS_CANCELED and not (tmp_path / "out").exists()
    assert third.end[0] == GoalStatus.STATUS_SUCCEEDED


def test_an_inactive_node_says_so_and_takes_goals_when_it_is_active_again(served, held, scans):
    pair = {name: scans[name] for name in ("fixed", "moving")}
    working = served.send(**pair)
    assert working.reached("registering")
    waiting = served.send(**pair)
    assert waiting.reached("waiting")
    deactivation = threading.Thread(target=served.change, args=(Transition.TRANSITION_DEACTIVATE,))
    deactivation.start()
    assert served.graph.until(lambda: not served.node.active)
    held.set()
    deactivation.join(60)
    for goal in (working, waiting, served.send(**pair)):
        status, result = goal.end
        assert status == GoalStatus.STATUS_ABORTED and "the node is not active" in result.message
    served.change(Transition.TRANSITION_ACTIVATE)
    assert served.send(**pair).end[0] == GoalStatus.STATUS_SUCCEEDED
    reports = served.graph.listen(DiagnosticArray, "/diagnostics")
    assert served.graph.until(lambda: reports)
    said = {value.key: value.value for value in reports[0][1].status[0].values}
    assert int(said["succeeded"]) > 0 and int(said["aborted"]) > 0 and float(said["net_ms"]) > 0


def test_the_launch_file_offers_the_action_by_the_bundle_that_ships(graph, installed):
    """Needs launch and launch_ros, which are on a robot but on no package index."""
    pytest.importorskip("launch_ros")
    client = ActionClient(graph.node, Register, "/theatre/registration")
    launched = graph.launch(installed, "edgeflock_ros", "registration", namespace="theatre")
    assert graph.until(client.server_is_ready), launched.log.read_text()
    client.destroy()
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(60) == 0
