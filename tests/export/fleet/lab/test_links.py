"""Processes in namespaces of their own: what they send meets the link's loss, latency and rate."""

import json
import sys

import pytest

from edgeflock.export.fleet.lab.links import Link, Relay, address
from edgeflock.runtime.errors import TransportError

SIZE = 300_000
RAW = [sys.executable, "-m", "edgeflock.export.fleet.lab.raw"]


@pytest.mark.parametrize(
    "link",
    [
        Link(latency_ms=100),
        Link(loss=0.1),
        Link(bits_per_s=4e6, buffer_s=10),
    ],
    ids=["latency", "loss", "rate"],
)
def test_a_body_crosses_whole_and_meets_the_link(tmp_path, link):
    outs = [tmp_path / f"{i}.json" for i in range(2)]
    with Relay(lambda *_: link) as relay:
        try:
            processes = [
                relay.start(i, [*RAW, address(i), address(1 - i), str(SIZE), "1", outs[i]], tmp_path / "log")
                for i in range(2)
            ]
        except TransportError as error:
            pytest.skip(str(error))
        assert [process.wait(120) for process in processes] == [0, 0], (tmp_path / "log").read_text()
    took = min(json.loads(out.read_text())["ms"][0] for out in outs)
    assert took >= max(2 * link.latency_ms, 8e3 * SIZE / link.bits_per_s if link.bits_per_s else 0)
    assert relay.passed > 2 * SIZE / 1500
    assert (relay.lost > 0) == (link.loss > 0)
