"""The steering node over the real middleware: stamps, bad frames, lifecycle, parameters, exit codes."""

import hashlib
import math
import signal
import time

import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from edgeflock.runtime.bundle.bundle import read_manifest
from edgeflock.runtime.bundle.manifest import TrainedCamera
from edgeflock.runtime.mount import Mount
from edgeflock_ros.frames import mounted, optical
from edgeflock_ros.messages import to_ns, to_stamp

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "bgra8": 4, "bayer_rggb8": 1, "16UC1": 2}


class FakeCamera:
    """Publishes frames of one brightness, or of one colour, at 30 Hz from the observer."""

    def __init__(self, graph):
        self.brightness, self.encoding, self.sent = 200, "rgb8", []
        self.publisher = graph.node.create_publisher(Image, "camera/color/image_raw", 1)
        graph.node.create_timer(1 / 30, self.publish)

    def publish(self):
        channels = CHANNELS[self.encoding]
        message = Image(height=48, width=64, encoding=self.encoding, step=64 * channels)
        message.data = np.resize(np.array(self.brightness, np.uint8), 48 * 64 * channels).tobytes()
        message.header.stamp = to_stamp(time.time_ns())
        self.sent.append(to_ns(message.header.stamp))
        self.publisher.publish(message)


@pytest.fixture(scope="module")
def chain(shared_graph, bundle):
    """Camera, a running steering node, and what it says."""
    shared_graph.camera = FakeCamera(shared_graph)
    shared_graph.steering = shared_graph.start("steering_node", bundle=bundle)
    shared_graph.joints = shared_graph.listen(JointState, "steering")
    shared_graph.diagnostics = shared_graph.listen(DiagnosticArray, "/diagnostics")
    heard = shared_graph.joints, shared_graph.diagnostics
    assert shared_graph.until(lambda: len(heard[0]) > 5 and heard[1]), shared_graph.steering.log.read_text()
    return shared_graph


def newest(chain, brightness, encoding="rgb8"):
    """Steering for a frame that was sent after the camera changed."""
    chain.camera.brightness, chain.camera.encoding = brightness, encoding
    changed = time.time_ns()
    assert chain.until(lambda: to_ns(chain.joints[-1][1].header.stamp) > changed)
    return chain.joints[-1][1]


def report(chain):
    """Newest report about a frame: the message, and the values."""
    status = chain.diagnostics[-1][1].status[0]
    return status.message, {v.key: v.value for v in status.values}


def test_every_answer_carries_the_stamp_of_a_frame_and_no_frame_is_answered_twice(chain):
    stamps = [to_ns(joint.header.stamp) for _, joint in chain.joints]
    assert len(set(stamps)) == len(stamps) and set(stamps) <= set(chain.camera.sent)


@pytest.mark.parametrize(
    ("brightness", "encoding"),
    [(200, "rgb8"), (50, "rgb8"), (150, "bgr8"), (90, "mono8"), (120, "bgra8"), (70, "bayer_rggb8")],
)
def test_the_angle_is_the_nets(chain, brightness, encoding):
    joint = newest(chain, brightness, encoding)
    assert list(joint.name) == ["steering"]
    assert joint.position[0] == pytest.approx(brightness / 255 - 0.5, abs=0.005)


def test_a_net_that_says_nan_is_passed_on_as_nan_with_an_error(chain):
    assert math.isnan(newest(chain, 0).position[0])
    assert chain.until(lambda: "nan" in report(chain)[0])
    assert math.isfinite(newest(chain, 100).position[0])


def test_a_frame_that_cannot_be_read_becomes_nan_with_the_reason(chain):
    assert math.isnan(newest(chain, 100, "16UC1").position[0])
    assert chain.until(lambda: "got '16UC1': that is a depth image" in report(chain)[0])
    assert math.isfinite(newest(chain, 100).position[0])


def test_diagnostics_tell_age_time_counts_and_which_net(chain, bundle):
    newest(chain, 100)
    assert chain.until(lambda: "age_ms" in report(chain)[1])
    assert chain.diagnostics[-1][1].status[0].name == "steering: frames"
    _, values = report(chain)
    assert 0 < float(values["age_ms"]) < 1000 and 0 < float(values["inference_ms"]) < 500
    assert int(values["frames"]) > 5 and values["precision"] == "fp32" and "onnxruntime" in values["engine"]
    assert values["bundle"] == hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


def test_after_a_hold_up_it_answers_the_newest_frame_and_counts_the_others_as_dropped(chain):
    newest(chain, 100)
    dropped, sent = int(report(chain)[1]["dropped"]), chain.camera.sent
    chain.steering.send_signal(signal.SIGSTOP)
    assert chain.until(lambda: psutil.Process(chain.steering.pid).status() == psutil.STATUS_STOPPED)
    first = len(sent)
    assert chain.until(lambda: len(sent) >= first + 30)
    chain.steering.send_signal(signal.SIGCONT)
    held, resumed = set(sent[first : len(sent) - 1]), sent[-1]
    assert chain.until(lambda: to_ns(chain.joints[-1][1].header.stamp) > resumed)
    answered = held & {to_ns(joint.header.stamp) for _, joint in chain.joints}
    assert len(answered) <= 3  # the one that it had in hand, and what it took while the others came in
    assert chain.until(lambda: int(report(chain)[1]["dropped"]) - dropped >= len(held) - 3)


def test_a_gain_holds_from_the_next_frame_on_while_it_drives(chain):
    assert chain.set_parameter("/steering", "steering_gain", 0.5) == (True, "")
    assert newest(chain, 200).position[0] == pytest.approx((200 / 255 - 0.5) / 2, abs=0.005)
    successful, reason = chain.set_parameter("/steering", "steering_gain", 0.0)
    assert not successful and "out of range" in reason
    assert chain.set_parameter("/steering", "steering_gain", 1.0) == (True, "")
    assert newest(chain, 200).position[0] == pytest.approx(200 / 255 - 0.5, abs=0.005)


def test_parameters_say_what_they_are_and_refuse_with_the_reason(chain):
    threads, qos = chain.describe("/steering", ["threads", "qos"])
    assert threads.description and (threads.integer_range[0].from_value, threads.integer_range[0].to_value) == (0, 64)
    assert qos.additional_constraints == "one of: sensor_data, reliable"
    successful, reason = chain.set_parameter("/steering", "threads", 2)
    assert not successful and "deactivate and clean up first" in reason


def test_remapped_to_a_compressed_topic_it_reads_jpeg_and_png(graph, bundle):
    cv2 = pytest.importorskip("cv2")
    sent = graph.node.create_publisher(CompressedImage, "/front/image_raw/compressed", 1)
    joints = graph.listen(JointState, "steering")
    image = {"format": ".jpg", "grey": 200}

    def publish():
        data = cv2.imencode(image["format"], np.full((48, 64, 3), image["grey"], np.uint8))[1].tobytes()
        message = CompressedImage(format=f"rgb8; {image['format'][1:]} compressed bgr8", data=data)
        message.header.stamp = to_stamp(time.time_ns())
        sent.publish(message)

    graph.node.create_timer(1 / 30, publish)
    remap = ["-r", "camera/color/image_raw:=/front/image_raw/compressed"]
    steering = graph.start("steering_node", arguments=remap, bundle=bundle)
    assert graph.until(lambda: joints), steering.log.read_text()
    assert joints[-1][1].position[0] == pytest.approx(200 / 255 - 0.5, abs=0.01)
    image |= {"format": ".png", "grey": 60}
    assert graph.until(lambda: joints[-1][1].position[0] == pytest.approx(60 / 255 - 0.5, abs=0.005))


def test_it_says_which_topic_it_waits_for_and_which_similar_ones_come(graph, bundle):
    camera = graph.node.create_publisher(Image, "/usb/color/image_raw", 1)
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    graph.start("steering_node", bundle=bundle)
    waits = "no image on /camera/color/image_raw: nobody sends there; such messages come on /usb/color/image_raw"
    assert graph.until(lambda: any(d.status[0].message == waits for _, d in diagnostics)), camera.topic_name


@pytest.fixture(scope="module")
def seeing(bundle, signed):
    """The bundle of a net that was trained with a camera 0.4 m high that looks 0.15 rad down."""
    manifest, _ = read_manifest(bundle)
    trained = TrainedCamera(height=0.4, pitch=0.15, fovy=1.5)
    files = {name: (bundle / name).read_bytes() for name in manifest.files}
    return signed(manifest.model_copy(update={"name": "seeing", "trained_camera": trained, "files": {}}), files)


def test_with_a_mount_frames_wait_for_the_lens_and_are_then_brought_to_the_view(graph, seeing):
    camera, joints = FakeCamera(graph), graph.listen(JointState, "steering")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    steering = graph.start("steering_node", bundle=seeing, camera_height=0.25, camera_pitch=0.3)

    def said(key="view"):
        values = [{v.key: v.value for v in d.status[0].values} for _, d in diagnostics]
        return next((v[key] for v in reversed(values) if key in v), "")

    def reason():
        return diagnostics[-1][1].status[0].message if diagnostics else ""

    assert graph.until(
        lambda: "the mount needs the lens: images come, but no camera_info on /camera/color/" in reason()
    )
    assert said() == "waits for camera_info" and not joints

    lens = CameraInfo(width=64, height=48, distortion_model="plumb_bob", k=[40.0, 0, 31.5, 0, 40.0, 23.5, 0, 0, 1])
    infos = graph.node.create_publisher(CameraInfo, "camera/color/camera_info", 1)
    graph.node.create_timer(1 / 30, lambda: infos.publish(lens))
    assert graph.until(lambda: joints and said().startswith("canonical, "))
    assert "this one, 0.250 m high, 17.2 degrees down, sees " in steering.log.read_text()
    assert graph.until(lambda: joints[-1][1].position[0] == pytest.approx(camera.brightness / 255 - 0.5, abs=0.005))

    before = said()
    assert graph.set_parameter("/steering", "camera_pitch", 1.2) == (True, "")  # while it drives
    assert graph.until(lambda: said() not in (before, "waits for camera_info"))
    assert "deactivate and clean up first" in graph.set_parameter("/steering", "camera_height", 0.0)[1]


def test_the_mount_may_come_from_tf_and_frames_wait_for_it(graph, seeing):
    kind = pytest.importorskip("tf2_msgs.msg").TFMessage
    _, joints = FakeCamera(graph), graph.listen(JointState, "steering")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    steering = graph.start("steering_node", bundle=seeing, mount_from="tf")
    lens = CameraInfo(width=64, height=48, k=[40.0, 0, 31.5, 0, 40.0, 23.5, 0, 0, 1])
    lens.header.frame_id = "front_optical"
    infos = graph.node.create_publisher(CameraInfo, "camera/color/camera_info", 1)
    graph.node.create_timer(1 / 30, lambda: infos.publish(lens))
    waits = "no static transform from base_link to front_optical in TF (it has none)"
    assert graph.until(lambda: any(d.status[0].message == waits for _, d in diagnostics)), steering.log.read_text()
    assert not joints
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    tell, mount = graph.node.create_publisher(kind, "/tf_static", latched), Mount(height=0.25, pitch=0.3)
    camera = mounted("base_link", "front", 0.2, mount)
    tell.publish(kind(transforms=[camera, optical("front", "front_optical")]))
    assert graph.until(lambda: joints), steering.log.read_text()
    assert "this one, 0.250 m high, 17.2 degrees down, sees " in steering.log.read_text()
    camera.transform.translation.z = 0.3  # it was moved, and the new place is told
    tell.publish(kind(transforms=[camera, optical("front", "front_optical")]))
    assert graph.until(lambda: "this one, 0.300 m high" in steering.log.read_text())


def test_without_a_mount_it_says_once_and_loudly_what_it_assumes(graph, seeing):
    camera, joints = FakeCamera(graph), graph.listen(JointState, "steering")
    steering = graph.start("steering_node", bundle=seeing)
    assert graph.until(lambda: len(joints) > 3), len(camera.sent)
    log = steering.log.read_text()
    assert log.count("NO MOUNT") == 1 and "the trained one, 0.4 m high, 8.6 degrees down, 85.9 degrees" in log


def test_the_lifecycle_runs_both_ways_and_a_bad_bundle_leaves_it_unconfigured(graph, bundle, tmp_path):
    camera = FakeCamera(graph)
    joints = graph.listen(JointState, "steering")
    graph.start("steering_node", autostart=False, bundle=tmp_path / "nowhere")

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return graph.call(ChangeState, "/steering/change_state", request).success

    def state():
        return graph.call(GetState, "/steering/get_state", GetState.Request()).current_state.label

    assert state() == "unconfigured"
    assert not change(Transition.TRANSITION_CONFIGURE) and state() == "unconfigured"
    assert graph.set_parameter("/steering", "bundle", str(bundle)) == (True, "")
    assert "Max: 64, value: 65" in graph.set_parameter("/steering", "threads", 65)[1]
    assert change(Transition.TRANSITION_CONFIGURE) and state() == "inactive"
    sent = len(camera.sent)
    assert graph.until(lambda: len(camera.sent) > sent + 9) and not joints
    assert change(Transition.TRANSITION_ACTIVATE) and graph.until(lambda: len(joints) > 3)
    assert change(Transition.TRANSITION_DEACTIVATE)
    sent = len(camera.sent)
    assert graph.until(lambda: len(camera.sent) > sent + 9)
    assert to_ns(joints[-1][1].header.stamp) <= camera.sent[sent]  # silence, though the camera goes on
    count = len(joints)
    assert change(Transition.TRANSITION_ACTIVATE) and graph.until(lambda: len(joints) > count + 3)
    assert change(Transition.TRANSITION_DEACTIVATE) and change(Transition.TRANSITION_CLEANUP)
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert graph.processes[-1].wait(60) == 0


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"bundle": "nowhere"}, 11, "expected a bundle"),
        ({"precision": "int4"}, 5, "int4"),
        ({"qos": "best"}, 5, "qos: input should be 'sensor_data' or 'reliable', got 'best'"),
    ],
)
def test_what_cannot_start_ends_with_the_errors_exit_code_and_reason(graph, bundle, parameters, code, message):
    process = graph.start("steering_node", **{"bundle": bundle, **parameters})
    assert process.wait(60) == code
    assert message in process.log.read_text()


def test_ctrl_c_ends_it_in_order(chain):
    chain.steering.send_signal(signal.SIGINT)
    assert chain.steering.wait(60) == 0
    assert "Traceback" not in chain.steering.log.read_text()


def test_somebodys_net_of_other_size_and_colours_steers(graph, wide_bundle, key):
    camera = FakeCamera(graph)
    camera.brightness = [0, 0, 102]  # blue
    node = graph.start("steering_node", bundle=wide_bundle, keys=key.with_suffix(".pub"))
    joints = graph.listen(JointState, "steering")
    assert graph.until(lambda: joints), node.log.read_text()
    assert joints[-1][1].position[0] == pytest.approx(0.4, abs=1e-3)
