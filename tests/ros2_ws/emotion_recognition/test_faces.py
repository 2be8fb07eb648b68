"""Labels to REP-155's words, boxes to regions, faces to messages of each kind."""

import math

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Header

from edgeflock.runtime.faces import Face
from edgeflock.runtime.faces.pipeline import FaceEmotion
from edgeflock.runtime.tasks.emotion import Emotion
from emotion_recognition import faces
from emotion_recognition.emotion_node import BLOCKS, coarsen

# hri_msgs/Expression (humble-devel): the words of which the nets know some.
REP_155 = {"neutral", "angry", "sad", "happy", "surprised", "disgusted", "scared"}


@pytest.mark.parametrize(
    "labels",
    [
        ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"),  # GLAMOR-Net
        ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger"),  # LDLVA
        ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),  # RAF-DB
    ],
)
def test_every_basic_emotion_has_a_word_whatever_order_and_form_its_name_has(labels):
    assert {faces.expression_of(label) for label in labels} == REP_155
    assert faces.expression_of(labels[0]) != faces.expression_of(labels[1])


def test_words_are_matched_by_meaning():
    assert [faces.expression_of(name) for name in ("Anger", "Fear", "Happiness")] == ["angry", "scared", "happy"]


def test_what_rep_155_has_no_word_for_keeps_its_own():
    assert faces.expression_of("Contempt") == "contempt"


def test_a_region_is_the_box_inside_the_frame_in_whole_pixels():
    assert faces.cut((-5.5, 10.2, 30.1, 700.0), 640, 480) == (0, 10, 31, 480)


def face(valence=None):
    distribution = {"Happy": 0.7, "Contempt": 0.3}
    emotion = Emotion(distribution, "Happy", 0.7, None, None, 1)
    return FaceEmotion(
        Face((-8.0, 24.0, 64.0, 120.0), 0.75, 3), emotion, distribution, "Happy", 0.7, valence, valence and -0.5
    )


def test_hri_msgs_get_words_and_normalised_regions():
    hri_msgs = pytest.importorskip("hri_msgs.msg", reason="hri_msgs comes from apt")
    assert {getattr(hri_msgs.Expression, word.upper()) for word in REP_155} == REP_155
    seen = faces.Seen("abcd3", faces.cut(face().face.box, 640, 480), face(valence=0.25))
    roi = faces._Hri.roi(Header(frame_id="c"), seen, 640, 480)
    assert (roi.xmin, roi.ymin, roi.xmax, roi.ymax) == pytest.approx((0, 0.05, 0.1, 0.25)) and roi.c == 0.75
    said = faces._Hri.expression(Header(frame_id="c"), seen, ["happy", "contempt"])
    assert (said.header.frame_id, said.expression, said.valence, said.arousal) == ("c", "happy", 0.25, -0.5)
    assert said.confidence == pytest.approx(0.7)
    assert faces.ids_of(faces._Hri.ids(Header(), [seen])) == ["abcd3"]


def test_our_own_message_has_the_whole_frame():
    edgeflock_msgs = pytest.importorskip("edgeflock_msgs.msg", reason="edgeflock_msgs has to be compiled")
    seen = faces.Seen("abcd3", faces.cut(face().face.box, 640, 480), face())
    frame = faces._frame(Header(frame_id="c"), ["Happy", "Contempt"], [seen])
    assert isinstance(frame, edgeflock_msgs.FaceEmotions)
    assert frame.header.frame_id == "c" and list(frame.labels) == ["Happy", "Contempt"]
    one = frame.faces[0]
    assert (one.id, one.expression, one.score) == ("abcd3", "happy", 0.75)
    assert list(one.probabilities) == pytest.approx([0.7, 0.3]) and math.isnan(one.valence)
    assert (one.roi.x_offset, one.roi.y_offset, one.roi.width, one.roi.height) == (0, 24, 64, 96)


def test_standard_messages_are_names_with_numbers():
    seen = faces.Seen("abcd3", faces.cut(face().face.box, 640, 480), face(valence=0.25))
    said = faces._Standard.expression(Header(frame_id="c"), seen, ["happy", "contempt"])
    assert dict(zip(said.name, said.position, strict=True)) == {
        "happy": 0.7,
        "contempt": 0.3,
        "valence": 0.25,
        "arousal": -0.5,
    }
    ids = faces._Standard.ids(Header(frame_id="c"), [seen])
    assert (list(ids.name), list(ids.position)) == (["abcd3"], [0.75])
    roi = faces._Standard.roi(Header(), seen, 640, 480)
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (0, 24, 64, 96)


def test_topics_come_with_a_face_and_go_when_it_is_away_for_long(graph):
    def header(seconds):
        out = Header()
        out.stamp.sec = seconds
        return out

    def named(part):
        return [name for name, _ in graph.node.get_topic_names_and_types() if part in name]

    topics = faces.FaceTopics(graph.node, ["Happy", "Contempt"])
    topics.publish(header(1), 640, 480, [face()])
    assert graph.until(lambda: len(named("/roi")) == len(named("/expression")) == 1)
    topics.publish(header(5), 640, 480, [])
    assert len(named("/roi")) == 1
    topics.publish(header(7), 640, 480, [])
    assert graph.until(lambda: not named("/roi") and not named("/expression")) and named("/humans/faces/tracked")
    topics.close()
    assert graph.until(lambda: not named("/humans"))


def test_a_blurred_face_is_a_few_blocks_and_the_rest_stays():
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    before = image.copy()
    coarsen(image, (-10.0, 20.0, 70.0, 100.0))
    assert len(np.unique(image[20:100, :70].reshape(-1, 3), axis=0)) <= BLOCKS**2
    image[20:100, :70] = before[20:100, :70]
    assert np.array_equal(image, before)


def test_blurring_a_box_beside_the_frame_changes_nothing():
    image = np.full((20, 20, 3), 7, np.uint8)
    coarsen(image, (30.0, 30.0, 40.0, 40.0))
    coarsen(image, (-9.0, -9.0, -1.0, -1.0))
    assert np.all(image == 7)
