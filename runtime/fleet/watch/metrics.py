"""A fleet's figures in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from edgeflock.runtime.fleet.watch.view import View

PREFIX = "edgeflock_fleet_"


def prometheus_text(view: View) -> bytes:
    """Exposition format 0.0.4; names follow https://prometheus.io/docs/practices/naming/."""

    class Collector:
        def collect(self) -> Iterator[Metric]:
            return _families(view)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def _families(view: View) -> Iterator[Metric]:
    rounds = GaugeMetricFamily(f"{PREFIX}rounds", "Rounds of the run.", labels=["run"])
    rounds.add_metric([view.run], view.rounds)
    yield rounds
    up = GaugeMetricFamily(f"{PREFIX}robot_up", "1: the robot is there.", labels=["robot"])
    round_ = GaugeMetricFamily(f"{PREFIX}robot_round", "Round that the robot is in.", labels=["robot"])
    alarms = GaugeMetricFamily(f"{PREFIX}robot_alarms", "Alarms that stand.", labels=["robot"])
    error = GaugeMetricFamily(
        f"{PREFIX}model_figure",
        "Figure of the newest model that passed, on the robot's own held-out data.",
        labels=["robot", "metric", "unit"],
    )
    of = GaugeMetricFamily(f"{PREFIX}model_round", "Round of the newest model that passed.", labels=["robot"])
    age = GaugeMetricFamily(f"{PREFIX}model_age_seconds", "Age of that model.", labels=["robot"])
    for robot in view.robots:
        up.add_metric([robot.name], robot.tone in ("good", "warn"))
        round_.add_metric([robot.name], robot.round)
        alarms.add_metric([robot.name], len(robot.alarms))
        if robot.model:
            error.add_metric([robot.name, robot.model.metric, robot.model.unit], robot.model.figure)
            of.add_metric([robot.name], robot.model.round)
            age.add_metric([robot.name], robot.model.age_s)
    yield from (up, round_, alarms, error, of, age)
    sent = CounterMetricFamily(
        f"{PREFIX}link_bytes", "Bytes from one robot to another since the link was opened.", labels=["source", "target"]
    )
    delay = GaugeMetricFamily(
        f"{PREFIX}link_delay_seconds", "Time of a small message from one robot to another.", labels=["source", "target"]
    )
    for link in view.links:
        ways = ((link.a, link.b, link.bytes_ab, link.ms_ab), (link.b, link.a, link.bytes_ba, link.ms_ba))
        for source, target, count, ms in ways:
            sent.add_metric([source, target], count)
            if ms is not None:
                delay.add_metric([source, target], ms / 1000)
    yield from (sent, delay)
    refused = CounterMetricFamily(
        f"{PREFIX}rejected", "What a robot refused of another, by reason.", labels=["robot", "peer", "reason"]
    )
    for refusal in view.refusals:
        refused.add_metric([refusal.by, refusal.of, refusal.reason], refusal.count)
    yield refused
