"""What Zenoh adds to the conformance suite: a network on which others may speak too, and its own configuration."""

import asyncio
import json

import pytest

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.transports.zenoh import ZenohTransport

zenoh = pytest.importorskip("zenoh")


def endpoint(free_ports):
    return f"tcp/127.0.0.1:{free_ports(1)[0]}"


def foreign(place):
    """A Zenoh session that belongs to no robot."""
    config = zenoh.Config()
    for key, value in {
        "mode": "client", "connect/endpoints": [place], "scouting/multicast/enabled": False,
    }.items():  # fmt: skip
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


def test_what_a_stranger_publishes_is_not_heard_under_an_unknown_name(free_ports):
    async def story():
        place = endpoint(free_ports)
        a = ZenohTransport("a", ["b"], [place], [])
        await a.open()
        with foreign(place) as session:
            session.put("edgeflock/to/a/stranger", b"let me in", congestion_control=zenoh.CongestionControl.BLOCK)
            session.put("edgeflock/to/a/b", b"known name", congestion_control=zenoh.CongestionControl.BLOCK)
            assert await asyncio.wait_for(a.receive(), 30) == ("b", b"known name")
        assert a.inbox.of("b").waiting_bytes == 0
        await a.close()

    asyncio.run(story())


def test_a_message_above_the_limit_is_dropped_and_counted(free_ports, until):
    async def story():
        place = endpoint(free_ports)
        a = ZenohTransport("a", ["b"], [place], [], max_message=10_000)
        await a.open()
        with foreign(place) as session:
            session.put("edgeflock/to/a/b", bytes(10_001), congestion_control=zenoh.CongestionControl.BLOCK)
            await until(lambda: a.counts["b"].dropped == {"oversize": 1})
        await a.close()

    asyncio.run(story())


def test_fleets_of_different_prefixes_do_not_hear_each_other(free_ports, until):
    async def story():
        place = endpoint(free_ports)
        a = ZenohTransport("a", ["b"], [place], [], prefix="kitchen")
        others = [ZenohTransport("b", ["a"], [], [place], prefix=prefix) for prefix in ("garden", "kitchen")]
        for end in (a, *others):
            await end.open()
        await until(lambda: others[1].reachable())
        assert others[0].reachable() == frozenset() and not others[0].send("a", b"hello")
        for end in (a, *others):
            await end.close()

    asyncio.run(story())


def test_its_own_configuration_file_is_read(tmp_path, free_ports):
    file = tmp_path / "zenoh.json5"
    file.write_text(
        '{ access_control: { enabled: true, default_permission: "deny", rules: [], subjects: [], policies: [] } }'
    )

    async def story():
        place = endpoint(free_ports)
        a = ZenohTransport("a", ["b"], [place], [], config=file)
        await a.open()
        with foreign(place) as session:
            session.put("edgeflock/to/a/b", b"denied", congestion_control=zenoh.CongestionControl.BLOCK)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(a.receive(), 0.5)
        await a.close()

    asyncio.run(story())


@pytest.mark.parametrize("wrong", ["192.168.1.7:7447", "carrier-pigeon"])
def test_an_endpoint_that_zenoh_does_not_know_is_refused_with_an_example(wrong):
    with pytest.raises(InputError, match=r"tcp/192\.168\.1\.7:7447"):
        ZenohTransport("a", ["b"], [wrong], [])


def test_a_configuration_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"missing\.json5"):
        ZenohTransport("a", ["b"], [], [], config=tmp_path / "missing.json5")


def test_an_endpoint_that_is_taken_is_refused(free_ports):
    async def story():
        place = endpoint(free_ports)
        a, b = ZenohTransport("a", ["b"], [place], []), ZenohTransport("b", ["a"], [place], [])
        await a.open()
        with pytest.raises(TransportError, match=r"b cannot open its Zenoh session.*free"):
            await b.open()
        await a.close()

    asyncio.run(story())
