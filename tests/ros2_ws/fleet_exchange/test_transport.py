"""The conformance suite of all transports, over real topics; and what ROS 2 adds to it."""

import asyncio
import functools
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("edgeflock_msgs", reason="edgeflock_msgs has to be compiled (.ci/messages)")

import rclpy
from edgeflock_msgs.msg import FleetPacket
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from fleet_exchange.transport import DEPTH, MAX_MESSAGE, RosTransport

sys.path.insert(0, str(Path(__file__).parents[2] / "runtime" / "fleet" / "transports"))
from group import run_story, wait_until
from test_conformance import *  # noqa: F403 - its tests run here with the fixtures of this file


class Ros:
    """Makes ends on a node, a participant and a spinning thread each, as robots have them."""

    loop_factory = staticmethod(asyncio.new_event_loop)

    def __init__(self, names, domain):
        self.names, self.domain, self.executors = names, domain, []

    def node(self, name):
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=self.domain)
        executor = SingleThreadedExecutor(context=context)
        node = rclpy.create_node(name, context=context)
        executor.add_node(node)
        thread = threading.Thread(target=self._spin, args=(executor,), daemon=True)
        thread.start()
        self.executors.append((executor, context, thread, node))
        return node

    @staticmethod
    def _spin(executor):
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    def end(self, name, **options):
        return RosTransport(self.node(name), name, [n for n in self.names if n != name], **options)

    def close(self):
        for executor, context, thread, node in self.executors:
            executor.shutdown()
            thread.join(60)
            node.destroy_node()
            context.try_shutdown()


@pytest.fixture
def way(domain):
    way = Ros(("a", "b", "c"), domain)
    yield way
    way.close()


@pytest.fixture
def run(way):
    return functools.partial(run_story, way)


@pytest.fixture
def until():
    return wait_until


def foreign(way, sender, receiver, prefix="/fleet"):
    """A publisher of somebody who is no robot of the fleet."""
    return way.node("stranger").create_publisher(FleetPacket, f"{prefix}/{sender}/to/{receiver}", DEPTH)


def test_a_history_holds_what_the_default_credits_let_under_way():
    from edgeflock.runtime.fleet.peer.config import PeerConfig
    from edgeflock.runtime.fleet.peer.wire import MAX_MESSAGE as LARGEST

    assert 2 * PeerConfig().credit <= DEPTH and LARGEST <= MAX_MESSAGE


def test_a_message_above_the_limit_is_dropped_and_counted(run, way, until):
    async def story(group):
        a, _ = await group.open("a", "b")
        publisher = foreign(way, "b", "a")
        await until(publisher.get_subscription_count)
        publisher.publish(FleetPacket(data=bytes(MAX_MESSAGE + 1)))
        await until(lambda: a.counts["b"].dropped == {"oversize": 1})

    run(story)


def test_fleets_of_different_prefixes_do_not_hear_each_other(run, way, until):
    async def story(group):
        a, b = await group.open("a", "b")
        other = way.end("b", prefix="/garden")
        await other.open()
        other.send("a", b"from the garden")
        b.send("a", b"from the kitchen")
        assert await asyncio.wait_for(a.receive(), 30) == ("b", b"from the kitchen")
        assert other.reachable() == frozenset()
        await other.close()

    run(story)


def test_a_robot_that_closes_takes_its_topics_back(run, way, until):
    async def story(group):
        await group.open("a", "b")
        observer = way.node("observer")
        await until(lambda: observer.count_publishers("/fleet/a/to/b") == 1)
        await group.close("a")
        await until(lambda: observer.count_publishers("/fleet/a/to/b") == 0)
        assert observer.count_subscribers("/fleet/b/to/a") == 0

    run(story)
