"""Which plan a peer follows, and how it goes over to another one together with the rest of the fleet."""

from __future__ import annotations

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer.context import Context
from edgeflock.runtime.fleet.peer.presence import Presence
from edgeflock.runtime.fleet.peer.view import mixing_of
from edgeflock.runtime.fleet.peer.wire import Heartbeat
from edgeflock.runtime.fleet.plan.schedule import Plan


class Adoption:
    """The plan in force, and the next one until it is adopted.

    Parameters
    ----------
    context : Context
    presence : Presence
    plan : Plan

    Attributes
    ----------
    form : Mixing
        How robots mix by the plan in force when none is absent.

    Raises
    ------
    InputError
        The plan does not fit roster or settings.
    """

    def __init__(self, context: Context, presence: Presence, plan: Plan) -> None:
        self._context, self._presence = context, presence
        self.form = mixing_of(plan, context.roster, context.config)
        self._next: tuple[Plan, int] | None = None

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self.form.plan

    @property
    def announced(self) -> tuple[str | None, int]:
        """Hash of the next plan and the round from which it is to hold; (None, 0): there is none."""
        return (self._next[0].hash, self._next[1]) if self._next else (None, 0)

    def announce(self, plan: Plan, at_round: int) -> None:
        """Follow another plan from a round on, if the others will too; or at once, where all that are there do."""
        mixing_of(plan, self._context.roster, self._context.config)
        alone = not self._presence.known()
        if at_round <= self._context.round and (alone or self._presence.against(plan, at_round)):
            raise InputError(
                f"round {at_round} is over or open, this robot is in {self._context.round}: name a later one."
            )
        self._next = plan, at_round

    def compare(self, beat: Heartbeat) -> None:
        """Raise an alarm where another robot follows another plan, and neither is about to go over to the other's."""
        agreed = beat.plan in (self.plan.hash, self.announced[0]) or beat.next_plan == self.plan.hash
        why = f"{beat.sender} follows the plan {beat.plan[:12]}, this robot {self.plan.hash[:12]}, and keeps it."
        self._context.alarm("plan", beat.sender, not agreed, why)

    def adopt(self) -> bool:
        """Go over to the next plan where its round has come and nobody is against it; says whether it did."""
        if self._next is None or self._context.round + 1 < self._next[1]:
            return False
        plan, at_round = self._next
        against = self._presence.against(plan, at_round)
        for name in plan.roster:
            why = f"{name} does not follow the plan {plan.hash[:12]} from round {at_round} on: the old one stays."
            self._context.alarm("next_plan", name, name in against, why)
        if against:
            return False
        self._next = None
        self.form = mixing_of(plan, self._context.roster, self._context.config)
        self._context.tally["plans"] += 1
        return True
