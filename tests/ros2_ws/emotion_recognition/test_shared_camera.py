"""One camera for FADNet and the emotion node: what each of them made of every frame, with the real nodes."""

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, JointState

from edgeflock.runtime.errors import InputError
from edgeflock_lab import emotion_bars as bars
from edgeflock_lab.emotion_bars import crowd, measure, write_video
from edgeflock_ros.messages import to_ns
from emotion_recognition.faces import ids_type

FRAMES, RATE_HZ = 30, 20


def test_every_frame_is_accounted_for_at_both_nodes(graph, bundle, four, tmp_path):
    """Holds on a busy machine too: a frame may be late or dropped there, but not without being counted."""
    heard = {"steering": graph.listen(JointState, "steering"), "emotion": graph.listen(ids_type(), "/h/faces/tracked")}
    infos = graph.listen(CameraInfo, "camera/color/camera_info")
    reports = graph.listen(DiagnosticArray, "/diagnostics", 1000)
    video = write_video(tmp_path / "four.avi", four, RATE_HZ, FRAMES / RATE_HZ)
    graph.start("emotion_recognition.emotion_node", bundle=bundle, humans="/h", qos="reliable")
    graph.start("steering_node", qos="reliable")
    assert graph.until(lambda: graph.node.count_subscribers("camera/color/image_raw") == 2)
    told = ("steering", "/h/faces/tracked")
    assert graph.until(lambda: all(graph.node.count_publishers(name) for name in told))
    assert graph.until(lambda: graph.node.count_publishers("/diagnostics") == 2)
    camera = graph.start("edgeflock_ros.camera_node", source="video", path=video)
    assert camera.wait(60) == 0 and f"after {FRAMES} frames" in camera.log.read_text()

    def counts(name):
        status = [m.status[0] for _, m in reports if m.status[0].name.startswith(f"{name}:")]
        return [{v.key: int(v.value) for v in one.values if v.value.isdigit()} for one in status]

    def settled():
        last = counts("emotion")[-2:]
        if len(last) < 2 or last[0]["received"] != last[1]["received"]:
            return False
        done = sum(last[1][key] for key in ("answered", "skipped", "refused"))
        return done == last[1]["received"] and counts("steering")

    assert graph.until(settled), graph.processes[0].log.read_text()
    steering, emotion = counts("steering")[-1], counts("emotion")[-1]
    taken = {"steering": steering["frames"], "emotion": emotion["received"]}
    gone = {"steering": steering["dropped"], "emotion": emotion["missed"]}
    sent = [to_ns(m.header.stamp) for _, m in infos]
    for name, answers in heard.items():
        stamps = [to_ns(m.header.stamp) for _, m in answers]
        assert stamps == sorted(set(stamps)), name  # none twice, none out of order
        between = [s for s in sent if stamps[0] <= s <= stamps[-1]]
        assert len(between) <= taken[name] + gone[name] <= FRAMES, name
    assert len(heard["steering"]) <= taken["steering"] and len(heard["emotion"]) <= emotion["answered"]


def test_the_bar_is_measured_over_the_real_nodes(bundle, monkeypatch, home):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(bars, "SETTLE_S", 0.1)
    monkeypatch.setattr(bars, "LOOP_S", 2)
    node = {"bundle": str(bundle), "engine": "onnxruntime-cpu", "precision": "fp32", "threads": 1}
    found = measure(node, faces=2, rate_hz=10, seconds=1.2, steering=False)
    assert found.sent == found.answered + found.skipped + found.lost
    assert 0 < found.all_faces <= found.answered <= found.sent
    assert 0 < found.p50_ms <= found.p99_ms <= found.max_ms and 0 < found.net_ms < found.p50_ms
    assert (found.engine, found.precision, found.faces) == ("onnxruntime-cpu", "fp32", 2)
    assert set(found.cpu_cores) == {"emotion", "camera"}


@pytest.mark.parametrize("faces", [0, 17])
def test_faces_that_do_not_fit_into_the_frame_are_refused(faces):
    with pytest.raises(InputError, match="expected 1 to 16 faces"):
        crowd(faces)
