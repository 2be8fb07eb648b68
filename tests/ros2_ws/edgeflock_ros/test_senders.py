"""Who sends on a topic: by name, silent or gone, one or two."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from edgeflock_ros import senders
from edgeflock_ros.senders import IMAGES, Senders


@pytest.fixture
def graph(monkeypatch):
    """A graph whose publishers and steady clock the test sets."""

    class Graph:
        names, now = ["/camera"], 100.0

        def get_publishers_info_by_topic(self, topic):
            split = [name.rpartition("/") for name in self.names]
            return [SimpleNamespace(node_namespace=space or "/", node_name=name) for space, _, name in split]

        def count_publishers(self, topic):
            return 0 if topic == "/front/image" else len(self.names) or 1

        def get_topic_names_and_types(self):
            sent = ["/image", "/rear/mono", "/front/image", "/cam/color/image_raw", "/cam/color/image_raw/compressed"]
            kinds = ["sensor_msgs/msg/CompressedImage" if n.endswith("compressed") else IMAGES[0] for n in sent]
            return [*((n, [k]) for n, k in zip(sent, kinds, strict=True)), ("/image_size", ["std_msgs/msg/Empty"])]

    graph = Graph()
    monkeypatch.setattr("edgeflock_ros.senders.time.monotonic", lambda: graph.now)
    monkeypatch.setattr(senders, "NUMBERED", True)
    return graph


def number(n):
    return {"publication_sequence_number": n}


def test_before_the_first_message_it_tells_a_silent_node_from_none(graph):
    assert Senders(graph, "/image").silence() == "/camera sends nothing on /image"
    graph.names = []
    assert Senders(graph, "/image").silence() == "nobody sends /image"


def test_whose_topic_has_no_sender_is_told_of_similar_ones_that_have(graph):
    images = Senders(graph, "/color/image_raw")
    assert images.absence("image", IMAGES) == "no image on /color/image_raw from /camera"
    graph.names = []
    said = images.absence("image", IMAGES)
    assert said.startswith(
        "no image on /color/image_raw: nobody sends there; such messages come on /cam/color/image_raw,"
    )
    assert "/front/image" not in said and "/image_size" not in said  # nobody sends the one, the other is no image


def test_a_silent_node_is_named_and_one_that_is_gone_by_the_name_that_it_had(graph):
    images = Senders(graph, "/image")
    images.hear()
    graph.now += 0.1
    assert images.silence(0.15) is None
    graph.now += 0.1
    assert images.silence(0.15) == "/image is silent for 0.20 s: /camera is silent or dead"
    graph.names = []
    assert images.silence(0.15) == "/image is silent for 0.20 s: /camera is gone"


def test_a_process_that_was_killed_is_neither_named_twice_nor_without_name(graph):
    graph.names = ["/robot1/steering", "/robot1/steering", "_NODE_NAMESPACE_UNKNOWN_/_NODE_NAME_UNKNOWN_"]
    assert Senders(graph, "/x").silence() == "/robot1/steering sends nothing on /x"


def test_numbers_that_go_back_twice_are_two_senders_once_is_a_new_start(graph):
    steering = Senders(graph, "/steering")
    for n in (500, 501, 1, 2, 3):
        steering.hear(number(n))
    assert steering.quarrel() is None
    graph.names = ["/joy", "/steering"]
    for n in (504, 4, 505, 5):
        steering.hear(number(n))
    assert steering.quarrel() == "more than one node sends on /steering: /joy, /steering"
    graph.now += 2.1
    assert steering.quarrel() is None
    assert steering.crowd() == "2 publishers of /steering: /joy, /steering"


def test_without_numbers_the_graph_decides(graph, monkeypatch):
    monkeypatch.setattr(senders, "NUMBERED", False)
    steering = Senders(graph, "/steering")
    assert steering.quarrel() is None
    graph.names = ["/joy", "/steering"]
    assert "/joy, /steering" in steering.quarrel()
