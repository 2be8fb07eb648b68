"""The fleet node as a process: what it says, its services, its battery, how it ends and goes on."""

import contextlib
import json
import re
import signal
import socket

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("edgeflock_msgs", reason="edgeflock_msgs has to be compiled (.ci/messages)")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from edgeflock_msgs.msg import FleetPacket, FleetStatus
from edgeflock_msgs.srv import ShowRound
from sensor_msgs.msg import BatteryState
from std_srvs.srv import Trigger

from edgeflock.runtime.fleet.peer.wire import is_chunk

NODE = "fleet_exchange.fleet_node"
PATIENCE_S = 240


def free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [s.getsockname()[1] for s in sockets]


class Pair:
    """Two of the three robots in endless rounds, which leave time for other tests; the third is not there."""

    def __init__(self, graph, fleet):
        self.graph, self.fleet = graph, fleet
        self.heard = {name: graph.listen(FleetStatus, f"/{name}/fleet/status") for name in ("r1", "r2")}
        self.reports = graph.listen(DiagnosticArray, "/diagnostics")
        self.battery = graph.node.create_publisher(BatteryState, "/r1/battery_state", 1)
        self.nodes = {name: self.start(name) for name in self.heard}
        self.until(lambda: all(self.round(name) > 2 for name in self.heard))

    def start(self, name):
        parameters = self.fleet.parameters(name, "pair", rounds=1_000_000, evaluate=1_000_000, duty=0.1)
        return self.graph.start(NODE, f"/{name}", **parameters)

    def until(self, condition):
        logs = {name: node.log for name, node in getattr(self, "nodes", {}).items()}
        assert self.graph.until(condition, PATIENCE_S), {name: log.read_text()[-3000:] for name, log in logs.items()}

    def last(self, name):
        return self.heard[name][-1][1] if self.heard[name] else FleetStatus()

    def round(self, name):
        return self.last(name).round

    def trigger(self, service):
        answer = self.graph.call(Trigger, f"/r1/fleet/{service}", Trigger.Request())
        return answer.success, answer.message

    def goes_on(self, name):
        """Wait until rounds pass."""
        before = self.round(name)
        self.until(lambda: self.round(name) > before + 2)


@pytest.fixture(scope="module")
def pair(shared_graph, fleet):
    return Pair(shared_graph, fleet)


def test_it_says_where_it_stands_and_whom_it_reaches(pair):
    status = pair.last("r1")
    assert (status.robot, status.run, status.rounds, status.metric) == ("r1", "lab", 1_000_000, "rmse")
    assert len(status.plan) == 64 and list(status.held) == []
    links = {link.robot: link for link in status.links}
    assert links["r2"].reachable and links["r2"].round > 0 and links["r2"].received_bytes > 1_000_000
    assert not links["r3"].reachable and links["r3"].round == -1
    shown = pair.graph.call(ShowRound, "/r1/fleet/show", ShowRound.Request()).status
    assert shown.robot == "r1" and shown.round >= status.round


def test_diagnostics_warn_while_a_robot_of_the_plan_is_missing(pair):
    def newest():
        own = [s for _, m in pair.reports for s in m.status if s.name == "r1/fleet: learning"]
        return own[-1] if own else DiagnosticStatus()

    pair.until(lambda: "without r3" in newest().message)
    values = {value.key: value.value for value in newest().values}
    assert newest().level == DiagnosticStatus.WARN and newest().hardware_id == "r1"
    assert int(values["round"]) > 0 and "r2" in values["reachable"] and int(values["rejected"]) == 0


def test_paused_it_leaves_and_resumed_it_joins_again(pair):
    assert pair.trigger("pause")[0]
    pair.until(lambda: pair.last("r1").held == ["pause"] and pair.last("r1").phase == "left")
    pair.until(lambda: "r1" in pair.last("r2").absent)
    pair.goes_on("r2")
    assert pair.trigger("resume") == (True, "joins")
    pair.until(lambda: "r1" not in pair.last("r2").absent)
    pair.goes_on("r1")


def test_a_low_battery_pauses_it_until_the_charge_is_a_margin_higher(pair):
    assert pair.graph.set_parameter("/r1/fleet", "battery_low", 0.2)[0]
    pair.until(lambda: pair.battery.get_subscription_count())

    def charged(percentage, held):
        def told():
            pair.battery.publish(BatteryState(percentage=percentage))
            return list(pair.last("r1").held) == held

        pair.until(told)

    charged(0.5, [])
    charged(0.15, ["battery"])
    assert pair.trigger("resume") == (False, "still held by battery")
    before = len(pair.heard["r1"])
    pair.until(lambda: pair.battery.publish(BatteryState(percentage=0.25)) or len(pair.heard["r1"]) > before + 3)
    assert list(pair.last("r1").held) == ["battery"]
    charged(0.31, [])
    pair.goes_on("r1")


def test_what_makes_the_run_is_refused_while_it_is_open(pair):
    successful, reason = pair.graph.set_parameter("/r1/fleet", "steps", 3)
    assert not successful and "deactivate and clean up first" in reason


def test_sigterm_leaves_in_good_order_and_kill_costs_no_more_than_the_running_round(pair):
    pair.nodes["r1"].send_signal(signal.SIGTERM)
    assert pair.nodes["r1"].wait(60) == 0
    pair.until(lambda: "r1" in pair.last("r2").absent)
    pair.nodes["r2"].kill()
    pair.nodes["r2"].wait()
    closed = {}
    for name in pair.nodes:
        events = (pair.fleet.folder / "pair" / name / "events.jsonl").read_text().splitlines()
        closed[name] = max(e["round"] for e in map(json.loads, filter(None, events)) if e["event"] == "mixed")
        pair.heard[name].clear()
        pair.nodes[name] = pair.start(name)
    for name, node in pair.nodes.items():
        pair.until(lambda node=node: "joins run lab" in node.log.read_text())
        after = int(re.search(r"after round (\d+) of", node.log.read_text())[1])
        assert closed[name] - 1 <= after <= closed[name]
        pair.until(lambda name=name, after=after: pair.round(name) > after + 1)


@pytest.mark.parametrize("bulk", ["tcp", "zenoh"])
def test_models_may_go_another_way_than_what_the_robots_say(graph, fleet, bulk):
    if bulk == "zenoh":
        pytest.importorskip("zenoh")
    ports = dict(zip(("r1", "r2", "r3"), free_ports(3), strict=True))
    crossed = graph.listen(FleetPacket, "/fleet/r1/to/r2")
    heard = graph.listen(FleetStatus, "/r2/fleet/status")
    for name in ("r1", "r2"):
        peers = " ".join(f"{other}=127.0.0.1:{port}" for other, port in ports.items() if other != name)
        own = {"bulk": bulk, "listen": f"127.0.0.1:{ports[name]}", "peers": f"'{peers}'"}
        graph.start(NODE, f"/{name}", **fleet.parameters(name, bulk, rounds=1_000_000, evaluate=1_000_000), **own)

    def received():
        return heard and sum(link.received_bytes for link in heard[-1][1].links) > 1_300_000  # a whole model

    assert graph.until(received, PATIENCE_S), [process.log.read_text() for process in graph.processes]
    messages = [packet.data.tobytes() for _, packet in crossed]
    assert messages and not any(map(is_chunk, messages))


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ({"rondes": 5}, 5, "unknown parameter 'rondes' (is it 'rounds'?)"),
        ({"roster": "''"}, 5, "got no roster"),
        ({"bulk": "carrier_pigeon"}, 5, "bulk"),
        ({"duty": 0.0}, 5, "duty"),
        ({"robot": "r9"}, 5, "is not the key of 'r9'"),
    ],
)
def test_what_cannot_start_ends_with_the_errors_exit_code_and_reason(graph, fleet, wrong, code, said):
    node = graph.start(NODE, **fleet.parameters("r1", "wrong", **wrong))
    assert node.wait(120) == code
    assert said in node.log.read_text()
