"""The plan as it is in force for one robot: without those that are absent."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.mixing.robust import robust_rule
from edgeflock.runtime.fleet.mixing.rules import Mixing, fits
from edgeflock.runtime.fleet.peer.config import PeerConfig
from edgeflock.runtime.fleet.peer.reclose import without
from edgeflock.runtime.fleet.peer.roster import Roster
from edgeflock.runtime.fleet.plan.schedule import Plan


class View:
    """Who mixes with whom, seen from one robot. It does not change: another absence is another view.

    Parameters
    ----------
    own : str
    form : Mixing
        Of the whole plan.
    absent : set of str

    Attributes
    ----------
    mixing : Mixing or None
        Of those that are there; None: this robot is alone.
    hash : str or None
        Of that plan. Two robots exchange only under one view.
    both_or_none : bool
        Whether both ends of an edge must mix, or neither.
    after_mixing : bool
        Whether this robot offers what it has after mixing: the hub under the rule `server`.
    problem : str or None
        Why this robot mixes with nobody although others are there.
    """

    def __init__(self, own: str, form: Mixing, absent: AbstractSet[str] = frozenset()) -> None:
        self._own, self.absent = own, frozenset(absent)
        self.mixing: Mixing | None = None
        self.problem: str | None = None
        plan = without(form.plan, absent) if own in form.plan.roster else None
        if plan is not None:
            try:
                self.mixing = Mixing(plan, form.rule if fits(plan, form.rule) else None, form.robust)
            except InputError as error:  # too few are left for a robust rule
                self.problem = str(error)
        self.hash = self.mixing.plan.hash if self.mixing else None
        self._at = {name: i for i, name in enumerate(self.mixing.plan.roster)} if self.mixing else {}
        self.both_or_none = self.mixing is not None and self.mixing.differences and self.mixing.robust is None
        self.after_mixing = self.mixing is not None and self.mixing.by_server and self.index(own) == self.mixing.hub

    def index(self, name: str) -> int:
        """Index of a robot in the plan."""
        return self._at[name]

    def senders(self, k: int) -> dict[str, int]:
        """Neighbours whose models are mixed here in round k, and of which round each is."""
        return self._named(self.mixing.senders(k, self.index(self._own))) if self.mixing else {}

    def receivers(self, k: int) -> dict[str, int]:
        """Neighbours to which the own model of round k goes, and in which round each mixes it."""
        return self._named(self.mixing.receivers(k, self.index(self._own))) if self.mixing else {}

    def share(self, k: int, sender: str) -> float:
        """Weight of a sender's model here in round k."""
        return self.mixing.share(k, self.index(sender), self.index(self._own)) if self.mixing else 0.0

    def needed(self, k: int) -> set[int]:
        """Rounds up to k whose own models will be mixed after round k."""
        return self.mixing.still_needed(k) if self.mixing else set()

    def _named(self, found: dict[int, int]) -> dict[str, int]:
        assert self.mixing is not None
        return {self.mixing.plan.roster[i]: round_ for i, round_ in found.items()}


def mixing_of(plan: Plan, roster: Roster, config: PeerConfig) -> Mixing:
    """How robots mix by a plan; `InputError` when the plan does not fit roster or settings."""
    if strangers := set(plan.roster) - roster.names:
        raise InputError(
            f"the plan names {', '.join(sorted(strangers))}, the roster of run '{roster.run}' does not: add them with "
            "`edgeflock fleet keys add`, or plan for those who are in it."
        )
    mixing = Mixing(plan, config.rule, robust_rule(config.robust) if config.robust else None)
    if mixing.rule == "push_sum" and config.codec != "fp32":
        raise InputError(f"push_sum counts mass and needs the codec fp32, not {config.codec}.")
    return mixing
