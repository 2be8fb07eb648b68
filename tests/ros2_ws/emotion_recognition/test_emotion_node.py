"""The emotion node over the real middleware: what it says, bad images, privacy, lifecycle, counts."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image, JointState, RegionOfInterest

from edgeflock.runtime.cameras.encodings import decode_rgb
from edgeflock.runtime.faces import open_detector
from edgeflock.runtime.faces.pipeline import EmotionPipeline
from edgeflock.runtime.tasks.emotion import EmotionRecognizer
from edgeflock_ros.messages import to_ns, to_stamp
from emotion_recognition import faces
from emotion_recognition.emotion_node import EmotionParameters
from emotion_recognition.faces import edgeflock_msgs, expression_of, hri_msgs, ids_of, ids_type

NODE = "emotion_recognition.emotion_node"


def message(pixels, encoding="rgb8", **changes):
    height, width = pixels.shape[:2]
    step = pixels.strides[0]
    fields = {"height": height, "width": width, "encoding": encoding, "step": step, "data": pixels.tobytes()}
    image = Image(**{**fields, **changes})
    image.header.frame_id = "eye"
    return image


class FakeCamera:
    """Publishes the image that it was given last, from the observer."""

    def __init__(self, graph, image, rate_hz=20.0):
        self.image, self.sent = image, []
        self.publisher = graph.node.create_publisher(Image, "camera/color/image_raw", 1)
        graph.node.create_timer(1 / rate_hz, self.publish)

    def publish(self):
        image = self.image
        if image is not None:
            self.sent.append(time.time_ns())
            image.header.stamp = to_stamp(self.sent[-1])
            self.publisher.publish(image)


@pytest.fixture(scope="module")
def chain(shared_graph, bundle, four):
    """Camera, a running node, and what it says."""
    g = shared_graph
    g.node_process = g.start(NODE, bundle=bundle, smoothing=0.0)
    g.tracked = g.listen(ids_type(), "/humans/faces/tracked")
    g.reports = g.listen(DiagnosticArray, "/diagnostics")
    g.camera = FakeCamera(g, message(four))
    assert g.until(lambda: len(g.tracked) > 2 and g.reports), g.node_process.log.read_text()
    return g


def newest(chain, image):
    """Ids in a frame that was sent after the camera changed."""
    chain.camera.image = image
    changed = time.time_ns()
    assert chain.until(lambda: to_ns(chain.tracked[-1][1].header.stamp) > changed)
    return list(ids_of(chain.tracked[-1][1]))


def topic(chain, kind, name):
    """The next message of a topic."""
    heard = chain.listen(kind, name)
    assert chain.until(lambda: heard), name
    return heard[-1][1]


@pytest.fixture
def expected(bundle, four, monkeypatch, home):
    """What the pipeline says of four faces."""
    monkeypatch.setenv("HOME", str(home))
    return EmotionPipeline(EmotionRecognizer(bundle), open_detector(stream=True))(four, "rgb8", 0)


def values(chain):
    status = chain.reports[-1][1].status[0]
    return status.message, {v.key: v.value for v in status.values}


def test_each_face_gets_an_id_in_rep_155s_syntax_and_the_stamp_and_frame_of_its_image(chain, four):
    ids = newest(chain, message(four))
    assert len(ids) == len(set(ids)) == 4 and all(name.isalnum() and name[0].isalpha() for name in ids)
    header = chain.tracked[-1][1].header
    assert header.frame_id == "eye" and to_ns(header.stamp) in chain.camera.sent


@pytest.mark.skipif(hri_msgs is not None, reason="hri_msgs takes their place")
def test_standard_messages_say_what_the_pipeline_says(chain, expected, four):
    for name, want in zip(newest(chain, message(four)), expected, strict=True):
        roi = topic(chain, RegionOfInterest, f"/humans/faces/{name}/roi")
        said = topic(chain, JointState, f"/humans/faces/{name}/expression")
        numbers = dict(zip(said.name, said.position, strict=True))
        x1, y1, x2, y2 = want.face.box
        assert (roi.x_offset, roi.y_offset, roi.width) == pytest.approx((x1, y1, x2 - x1), abs=2)
        assert roi.y_offset + roi.height == pytest.approx(y2, abs=2)
        for label, probability in want.distribution.items():
            assert numbers[expression_of(label)] == pytest.approx(probability, abs=1e-6)
        assert (numbers["valence"], numbers["arousal"]) == pytest.approx((want.valence, want.arousal), abs=1e-6)
        assert to_ns(said.header.stamp) in chain.camera.sent


@pytest.mark.skipif(hri_msgs is None, reason="hri_msgs comes from apt")
def test_hri_msgs_say_what_the_pipeline_says(chain, expected, four):
    for name, want in zip(newest(chain, message(four)), expected, strict=True):
        roi = topic(chain, hri_msgs.NormalizedRegionOfInterest2D, f"/humans/faces/{name}/roi")
        said = topic(chain, hri_msgs.Expression, f"/humans/faces/{name}/expression")
        assert (roi.xmin * 640, roi.ymax * 480) == pytest.approx((want.face.box[0], want.face.box[3]), abs=2)
        assert (said.expression, said.confidence) == (expression_of(want.label), pytest.approx(want.confidence))
        assert (said.valence, said.arousal) == pytest.approx((want.valence, want.arousal), abs=1e-6)
        assert to_ns(said.header.stamp) in chain.camera.sent


@pytest.mark.skipif(edgeflock_msgs is None, reason="edgeflock_msgs has to be compiled")
def test_our_own_message_says_what_the_pipeline_says(chain, expected, four):
    heard = chain.listen(edgeflock_msgs.FaceEmotions, "/humans/faces/emotions")
    newest(chain, message(four))

    def both():
        """A frame and the ids that were tracked in it: a busy machine may give new ones a second later."""
        ids = {to_ns(m.header.stamp): list(ids_of(m)) for _, m in chain.tracked}
        return next(
            ((m, ids[at]) for _, m in heard[::-1] if len(m.faces) == 4 and (at := to_ns(m.header.stamp)) in ids), None
        )

    assert chain.until(lambda: both() is not None)
    frame, ids = both()
    assert [one.id for one in frame.faces] == ids and list(frame.labels) == list(expected[0].distribution)
    for one, want in zip(frame.faces, expected, strict=True):
        assert list(one.probabilities) == pytest.approx(list(want.distribution.values()), abs=1e-6)
        assert (one.expression, one.confidence) == (expression_of(want.label), pytest.approx(want.confidence))


def test_ids_stay_with_faces_that_move(chain, four):
    before = newest(chain, message(four))
    after = newest(chain, message(np.roll(four, 12, axis=1)))
    assert len(after) >= 3 and set(after) <= set(before)  # the cascade may lose one that moved; nobody is new


@pytest.mark.parametrize("encoding", ["bgr8", "mono8"])
def test_other_encodings_show_the_same_faces(chain, four, encoding):
    pixels = four[..., ::-1] if encoding == "bgr8" else four.mean(2).astype(np.uint8)
    assert len(newest(chain, message(np.ascontiguousarray(pixels), encoding))) == 4


def test_a_frame_without_a_face_is_answered_with_nobody(chain, empty):
    assert newest(chain, message(empty)) == []
    assert chain.until(lambda: values(chain)[1].get("faces") == "0")


BAD = {
    "colours that no net reads": ({"encoding": "32SC3"}, "encoding"),
    "depth": ({"encoding": "16UC1"}, "encoding"),
    "no data": ({"data": b""}, "data"),
    "rows longer than the data": ({"step": 4000}, "data"),
    "rows shorter than the width": ({"step": 100}, "data"),
    "one pixel": ({"height": 1, "width": 1, "step": 3}, "image"),
    "no pixel": ({"height": 0, "width": 0, "step": 0}, "data"),
}


def test_bad_images_are_counted_by_reason_never_answered_and_the_next_good_one_is(chain, four):
    newest(chain, message(four))
    answered = len(chain.tracked)

    def refused(reason):
        return int(values(chain)[1].get(f"refused_{reason}", 0))

    for change, reason in BAD.values():
        newest(chain, message(four))  # no bad image of before is on its way
        before = refused(reason)
        chain.camera.image = message(four, **change)
        assert chain.until(lambda reason=reason, before=before: refused(reason) > before), change
        assert chain.until(lambda: values(chain)[0].startswith(("expected a", "a rgb8 image must have shape")))
    assert len(newest(chain, message(four))) == 4
    assert {len(ids_of(m)) for _, m in chain.tracked[answered:]} == {4}  # only the good ones were answered
    assert chain.node_process.poll() is None


def test_every_image_that_came_is_answered_skipped_or_refused(chain, four):
    newest(chain, message(four))
    chain.camera.image = None

    def counts():
        _, count = values(chain)
        return [int(count[k]) for k in ("received", "answered", "skipped", "refused")]

    def settled():
        received, *done = counts()
        return received == sum(done) and done[0] == len(chain.tracked)

    silent = len(chain.reports) + 2  # the second one is made after the last image
    assert chain.until(lambda: len(chain.reports) >= silent and settled()), counts()
    received, count = counts()[0], values(chain)[1]
    assert received + int(count["missed"]) <= len(chain.camera.sent)
    stamps = [to_ns(m.header.stamp) for _, m in chain.tracked]
    assert stamps == sorted(set(stamps)) and set(stamps) <= set(chain.camera.sent)


def test_diagnostics_tell_latency_and_which_net(chain):
    assert chain.until(lambda: "latency_p50_ms" in values(chain)[1])  # the first report may be older than the answers
    _, count = values(chain)
    assert 0 < float(count["latency_p50_ms"]) <= float(count["latency_p99_ms"])
    kind = "hri_msgs" if hri_msgs else "standard messages"
    assert count["messages"].startswith(kind) and count["detector"] == "HaarDetector"
    assert "onnxruntime" in count["engine"] and len(count["bundle"]) == 64 and count["annotated"] == "False"


def test_no_image_leaves_the_node_unless_asked_for(chain):
    topics = chain.node.get_publisher_names_and_types_by_node("emotion", "/")
    assert len(topics) > 5 and not [name for name, types in topics if "sensor_msgs/msg/Image" in types]


@pytest.mark.parametrize("humans", ["humans", "/1", "/humans/", "/a b"])
def test_a_namespace_that_ros_would_not_take_is_refused_with_the_parameters(humans):
    with pytest.raises(ValueError, match="humans"):
        EmotionParameters(humans=humans)


def test_parameters_are_refused_while_the_bundle_is_loaded(chain):
    successful, reason = chain.set_parameter("/emotion", "publish_annotated", True)
    assert not successful and "deactivate and clean up first" in reason


def test_the_annotated_image_hides_faces_and_the_topics_end_with_the_bundle(graph, bundle, four):
    graph.start(NODE, bundle=bundle, publish_annotated=True, humans="/robot1/humans")
    FakeCamera(graph, message(four))
    drawn = graph.listen(Image, "emotion/annotated")
    tracked = graph.listen(ids_type(), "/robot1/humans/faces/tracked")
    assert graph.until(lambda: drawn and tracked)
    image = drawn[-1][1]
    assert (image.encoding, image.width, image.height, image.header.frame_id) == ("rgb8", 640, 480, "eye")
    picture = decode_rgb(image)
    found = open_detector(stream=True)(four, "rgb8")
    for face in found:
        x1, y1, x2, y2 = faces.cut(face.box, 640, 480)
        middle = (slice((3 * y1 + y2) // 4, (y1 + y2) // 2), slice((3 * x1 + x2) // 4, (x1 + 3 * x2) // 4))
        raw, sent = (len(np.unique(p[middle].reshape(-1, 3), axis=0)) for p in (four, picture))
        assert raw > 300 and sent < 30  # coarse blocks
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert graph.call(ChangeState, "/emotion/change_state", request).success
    assert graph.until(lambda: not graph.node.count_publishers("/robot1/humans/faces/tracked"))
    assert graph.set_parameter("/emotion", "smoothing", 2.0) == (True, "")


@pytest.mark.parametrize(
    ("parameters", "code", "said"),
    [
        ({"bundle": "nowhere"}, 11, "expected a bundle"),
        ({"detector": "nowhere.onnx"}, 5, "nowhere.onnx"),
    ],
)
def test_what_cannot_start_ends_with_the_errors_exit_code_and_reason(graph, bundle, parameters, code, said):
    process = graph.start(NODE, **{"bundle": bundle, **parameters})
    assert process.wait(60) == code
    assert said in process.log.read_text()
