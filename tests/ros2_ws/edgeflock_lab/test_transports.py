"""`bench transports`: its tables, and its row of ROS 2, between real namespaces; the others' robots run in lab/."""

import pytest

from edgeflock.runtime.errors import TransportError
from edgeflock_lab.transports import CodecRow, LargeRow, measure_large, table


def test_the_table_has_a_line_for_each_codec_and_each_transport_and_loss():
    codecs = [CodecRow("fp32", 1236.2, 330.4), CodecRow("topk", 148.0, 121.0)]
    large = [LargeRow("plain TCP", 0.0, 2, 2, 7.5, 1.0, "cubic"), LargeRow("zenoh", 0.05, 5, 6, 9.0, 1.2, "cubic")]
    lines = table(codecs, large, 45, 50, 2).splitlines()
    assert "| `fp32` | 1,236 | 330 |" in lines
    assert lines[7] == "45 MB in both directions at once, fp32, 50 Mbit/s, 2 ms, TCP's congestion control cubic:"
    assert "| plain TCP | 0 % | 2 of 2 | 7.50 | 1.00 |" in lines
    assert "| zenoh | 5 % | 5 of 6 | 9.00 | 1.20 |" in lines


def test_models_arrive_whole_over_ros_2_topics_where_one_packet_of_a_hundred_is_lost():
    pytest.importorskip("rclpy")
    pytest.importorskip("edgeflock_msgs", reason="edgeflock_msgs has to be compiled (.ci/messages)")
    try:
        plain, ros = measure_large(1.0, 50, 2, [0.01], 1, ["ros2"], "reno", lambda what: None)
    except TransportError as error:
        pytest.skip(str(error))
    assert (plain.models, plain.control) == (2, "reno")
    assert (ros.transport, ros.models, ros.sent) == ("ros2", 2, 2)
    assert ros.seconds >= 8e6 / 50e6, "faster than the link: the models passed it by"
