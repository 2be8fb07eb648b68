"""The plan that a fleet goes over to in a named round, signed by the fleet's key: a file beside the roster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.peer.sealed import seal, unseal
from edgeflock.runtime.fleet.plan.schedule import Plan

NEXT_PLAN = "next-plan.json"


@dataclass(frozen=True)
class NextPlan:
    """A plan, and the round from which on it is to hold."""

    plan: Plan
    at_round: int


def write_next_plan(path: Path, following: NextPlan, roster: Roster, fleet_key: Ed25519PrivateKey) -> None:
    """Sign and write it, atomically; `InputError` when it names robots that have no key in that round."""
    if strangers := sorted(set(following.plan.roster) - set(roster.members(following.at_round))):
        raise InputError(
            f"the plan names {', '.join(strangers)}, who has no key in force in round {following.at_round} of run "
            f"'{roster.run}': add it with `edgeflock fleet keys add`, or plan for those who have."
        )
    plan = json.loads(following.plan.to_json())
    content = {"run": roster.run, "at_round": following.at_round, "plan": plan}
    write_atomically(path, seal("plan", content, fleet_key))


def read_next_plan(path: Path, run: str, fleet_key: bytes) -> NextPlan:
    """Read and verify it.

    Raises
    ------
    DataError
        It is none, was changed, is of another fleet or another run.
    """
    remedy = "Fetch it again, or make it with `edgeflock fleet adopt`."
    content, _ = unseal(path, "plan", fleet_key, remedy)
    try:
        found = NextPlan(Plan.from_json(json.dumps(content["plan"]), path), int(content["at_round"]))
        of = content["run"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no plan to adopt ({type(error).__name__}: {error}). {remedy}") from error
    if of != run:
        raise DataError(f"{path} is for the run '{of}', this is '{run}'. {remedy}")
    return found
