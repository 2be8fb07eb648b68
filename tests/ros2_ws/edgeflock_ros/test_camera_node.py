"""The camera node over the real middleware, with each of its sources."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from edgeflock.runtime.cameras.camera_info import write_camera
from edgeflock.runtime.cameras.encodings import decode_depth, decode_rgb
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock_ros.messages import to_intrinsics, to_ns

COLOR, DEPTH = "camera/color", "camera/aligned_depth_to_color"

CAMERA = "edgeflock_ros.camera_node"


def listen(graph):
    """Lists of (arrival, message) of the four topics."""
    kinds = {"image_raw": Image, "camera_info": CameraInfo}
    return {f"{t}/{k}": graph.listen(kind, f"{t}/{k}", 100) for t in (COLOR, DEPTH) for k, kind in kinds.items()}


def stamps(heard):
    return [to_ns(message.header.stamp) for _, message in heard]


@pytest.fixture
def pictures(tmp_path):
    """A folder of 64x48 pictures, which know no lens."""
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((48, 64, 3), 90, np.uint8))
    return tmp_path


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_video_gets_its_lens_from_the_file_that_calibration_writes(graph, pictures, scheme):
    lens = Intrinsics(64, 48, 40.0, 41.0, 31.5, 23.5, coeffs=(-0.2, 0.1, 0.0, 0.0, 0.0))
    write_camera(pictures / "camera.yaml", lens)
    heard = listen(graph)[f"{COLOR}/camera_info"]
    url = f"{scheme}{pictures / 'camera.yaml'}"
    process = graph.start(CAMERA, source="video", path=pictures, loop=True, camera_info_url=url)
    assert graph.until(lambda: heard), process.log.read_text()
    assert to_intrinsics(heard[0][1]) == lens


@pytest.mark.parametrize(
    ("url", "message"),
    [("small.yaml", "expected the lens of 64x48 images, got one of 32x24"), ("none.yaml", "got another file")],
)
def test_a_lens_that_is_not_of_these_images_is_refused(graph, pictures, url, message):
    write_camera(pictures / "small.yaml", Intrinsics(32, 24, 20.0, 20.0, 15.5, 11.5))
    process = graph.start(CAMERA, source="video", path=pictures, camera_info_url=pictures / url)
    assert process.wait(60) == InputError.exit_code
    assert message in process.log.read_text()


def test_it_tells_tf_of_its_optical_frame_as_every_driver_does(graph, road_bag):
    kind = pytest.importorskip("tf2_msgs.msg").TFMessage
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    told, images = graph.listen(kind, "/tf_static", latched), graph.listen(Image, f"{COLOR}/image_raw")
    graph.start(CAMERA, source="bag", path=road_bag(150), frame_prefix="robot1/")
    assert graph.until(lambda: told and images)
    [frame] = told[-1][1].transforms
    assert (frame.header.frame_id, frame.child_frame_id) == ("robot1/camera_link", images[0][1].header.frame_id)
    assert frame.child_frame_id == "robot1/camera_color_optical_frame"


def test_a_realsense_recording_goes_out_bit_for_bit_with_depth_and_calibration(graph, realsense_recording):
    heard = listen(graph)
    process = graph.start(CAMERA, source="realsense", path=realsense_recording.path, loop=True)
    images, depths = heard[f"{COLOR}/image_raw"], heard[f"{DEPTH}/image_raw"]
    scenes = [color for color, _ in realsense_recording.scenes]
    seen, paired, looked_at = set(), set(), 0

    def look():
        """At what came since the last look: a busy machine loses frames, the loop brings them again."""
        nonlocal looked_at
        by_stamp = {to_ns(m.header.stamp): m for _, m in list(depths)}
        for _, message in images[looked_at : len(images) - 1]:  # the depth of the newest may be on its way
            looked_at += 1
            assert (message.encoding, message.header.frame_id) == ("rgb8", "camera_color_optical_frame")
            n = next(n for n, scene in enumerate(scenes) if np.array_equal(decode_rgb(message), scene))
            seen.add(n)
            if depth := by_stamp.get(to_ns(message.header.stamp)):  # at the seam of the loop there may be none
                assert depth.encoding == "16UC1" and np.max(decode_depth(depth)) == 1000 + 100 * n  # its own, in mm
                paired.add(n)
        return len(seen) >= 10 and len(paired) >= 10

    assert graph.until(look, 60), process.log.read_text()
    info = heard[f"{COLOR}/camera_info"][0][1]
    assert info.k.tolist() == pytest.approx([288, 0, 160, 0, 288, 120, 0, 0, 1])
    first, last = stamps(heard[f"{COLOR}/camera_info"])[0], stamps(images)[-1]  # the topics are joined one by one
    assert graph.until(lambda: last in stamps(heard[f"{COLOR}/camera_info"]))
    assert {s for s in stamps(images) if first <= s <= last} <= set(stamps(heard[f"{COLOR}/camera_info"]))
    ages_s = [(arrival - to_ns(m.header.stamp)) / 1e9 for arrival, m in images]
    assert 0 < np.median(ages_s) < 10  # stamped when handed over; it was recorded at the beginning of 1970


def test_a_rosbag_is_played_with_its_depth_and_the_process_ends_with_it(graph, road_bag):
    heard = listen(graph)
    process = graph.start(CAMERA, source="bag", path=road_bag(120))
    assert graph.until(lambda: heard[f"{COLOR}/image_raw"] and heard[f"{DEPTH}/image_raw"]), process.log.read_text()
    assert decode_rgb(heard[f"{COLOR}/image_raw"][0][1])[60, 80].tolist() == [120, 120, 120]
    assert decode_depth(heard[f"{DEPTH}/image_raw"][0][1])[60, 80] == 6000
    assert heard[f"{DEPTH}/camera_info"][0][1].k[0] == 100.0
    assert process.wait(60) == 0 and "after 90 frames" in process.log.read_text()
    times = np.array(stamps(heard[f"{COLOR}/camera_info"]))
    assert np.median(np.diff(times)) / 1e6 == pytest.approx(33.3, abs=15)


def sent(report):
    """Frames so far, as the diagnostics tell."""
    return next(v.value for v in report.status[0].values if v.key == "frames")


def film(folder):
    """Ten red frames."""
    writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(10):
        writer.write(np.full((48, 64, 3), (0, 0, 200), np.uint8))
    writer.release()
    return folder / "v.avi"


def test_a_video_has_no_depth_topics_and_no_calibration(graph, tmp_path):
    heard = listen(graph)
    process = graph.start(
        "edgeflock_ros.camera_node", source="video", path=film(tmp_path), loop=True, qos="sensor_data"
    )
    graph.node.create_subscription(Image, f"{COLOR}/image_raw", heard[f"{COLOR}/image_raw"].append, 1)
    assert graph.until(lambda: heard[f"{COLOR}/camera_info"]), process.log.read_text()
    assert heard[f"{COLOR}/camera_info"][0][1].k.tolist() == [0.0] * 9
    assert not heard[f"{DEPTH}/camera_info"]
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    assert graph.until(lambda: any(m.status[0].message == "streaming" for _, m in reports))
    refused = "the camera is open: deactivate and clean up first (ros2 lifecycle set /camera cleanup)"
    assert graph.set_parameter("/camera", "fps", 15) == (False, refused)


def test_the_lifecycle_opens_sends_and_closes(graph, tmp_path):
    """Without the camera it stays unconfigured; deactivated it is silent; cleaned up its topics are gone."""
    images = graph.listen(Image, f"{COLOR}/image_raw")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    process = graph.start(CAMERA, autostart=False, source="video", path=tmp_path / "nowhere.avi", loop=True)

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return graph.call(ChangeState, "/camera/change_state", request).success

    assert not change(Transition.TRANSITION_CONFIGURE)
    assert "does not exist" in process.log.read_text()
    assert graph.set_parameter("/camera", "path", str(film(tmp_path))) == (True, "")
    for _ in range(2):
        assert change(Transition.TRANSITION_CONFIGURE)
        assert graph.until(lambda: graph.node.count_publishers(f"{COLOR}/image_raw") == 1)
        count = len(images)
        assert graph.set_parameter("/camera", "loop", False)[0] is False  # the node is awake, and yet no image comes
        assert len(images) == count
        assert change(Transition.TRANSITION_ACTIVATE)
        assert graph.until(lambda count=count: len(images) > count + 3)
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert graph.until(lambda: reports and reports[-1][1].status[0].message == "inactive")
        count, told = len(images), len(reports)
        assert graph.until(lambda told=told: len(reports) > told + 1)
        assert len(images) == count
        assert change(Transition.TRANSITION_CLEANUP)
        assert graph.until(lambda: graph.node.count_publishers(f"{COLOR}/image_raw") == 0)
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert process.wait(60) == 0


def test_no_frame_of_a_recording_leaves_before_its_readers_are_there(graph, tmp_path):
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    process = graph.start(CAMERA, source="video", path=film(tmp_path), wait_for_readers=1)
    assert graph.until(lambda: len(reports) > 1), process.log.read_text()
    assert {sent(message) for _, message in reports if message.status[0].message != "inactive"} == {"0"}
    images = graph.listen(Image, f"{COLOR}/image_raw")
    assert process.wait(60) == 0
    assert graph.until(lambda: images) and "after 10 frames" in process.log.read_text()


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"source": "realsense"}, 16, "got none. Plug it into a USB 3 port"),
        ({"source": "video", "path": "nowhere.mp4"}, 16, "does not exist"),
        ({"source": "lidar"}, 5, "source: input should be 'realsense', 'bag' or 'video', got 'lidar'"),
        ({"fps": 0}, 5, "fps out of range. Min: 1, Max: 240, value: 0"),
    ],
)
def test_what_cannot_start_ends_with_the_errors_exit_code_and_reason(graph, parameters, code, message):
    process = graph.start(CAMERA, **parameters)
    assert process.wait(60) == code
    assert message in process.log.read_text()
