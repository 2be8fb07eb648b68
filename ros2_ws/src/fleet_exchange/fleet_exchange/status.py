"""Where a robot stands, as a message and as a diagnostic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from builtin_interfaces.msg import Time

from fleet_exchange.messages import FleetLink, FleetStatus


def status_message(status: Mapping[str, Any], stamp: Time) -> FleetStatus:
    """Message of what `Participant.status` says."""
    best = status["best"]
    return FleetStatus(
        stamp=stamp,
        **{name: status[name] for name in ("robot", "run", "phase", "held", "round", "rounds", "plan", "metric")},
        **{name: status.get(name, []) for name in ("waits_for", "absent", "alarms")},
        best=math.nan if best is None else best,
        links=[_link(name, peer, status) for name, peer in status.get("peers", {}).items()],
    )


def _link(name: str, peer: Mapping[str, Any], status: Mapping[str, Any]) -> FleetLink:
    counts = status["links"].get(name, {})
    return FleetLink(
        robot=name,
        reachable=name in status["reachable"],
        round=-1 if peer["round"] is None else peer["round"],
        sent_bytes=counts.get("sent_bytes", 0),
        received_bytes=counts.get("received_bytes", 0),
        dropped=sum(counts.get("dropped", {}).values()),
        rejected=sum(peer["rejected"].values()),
    )


def summary(status: Mapping[str, Any]) -> tuple[bool, str, dict[str, Any]]:
    """Whether all is well, in a line, and values for the diagnostics."""
    links = status.get("links", {}).values()
    values = {
        "round": status["round"],
        "rounds": status["rounds"],
        "phase": status["phase"],
        "reachable": ", ".join(status.get("reachable", [])),
        "absent": ", ".join(status.get("absent", [])),
        "sent_bytes": sum(link["sent_bytes"] for link in links),
        "received_bytes": sum(link["received_bytes"] for link in links),
        "rejected": sum(sum(peer["rejected"].values()) for peer in status.get("peers", {}).values()),
        status["metric"]: "none yet" if status["best"] is None else status["best"],
    }
    where = f"round {status['round']} of {status['rounds']}, {status['phase']}"
    if status["held"]:
        return False, f"held by {', '.join(status['held'])}: {where}", values
    if alarms := status.get("alarms"):
        return False, f"{where}; alarm {', '.join(alarms)}", values
    if absent := values["absent"]:
        return False, f"{where}, without {absent}", values
    return True, where, values
