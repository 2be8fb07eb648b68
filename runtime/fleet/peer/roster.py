"""The roster: which robots belong to a fleet, by which keys, from which round to which; signed by the fleet's own key.

Membership is this file, never what a network discovers. Rounds, not dates, say when a key is in force: robots need no
common clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeflock.runtime.bundle.signing import key_id
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import write_atomically
from edgeflock.runtime.fleet.peer.sealed import seal, unseal
from edgeflock.runtime.fleet.peer.wire import Name, Run
from edgeflock.runtime.fleet.transports.base import check_name

LAST_ROUND = 10**9
"""A round a second for thirty years: a number beyond it was not meant."""

PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RobotKey(BaseModel):
    """A key of a robot and the rounds in which it is in force: `from_round` up to and without `until_round`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    key: PublicKey
    from_round: int = Field(0, ge=0, le=LAST_ROUND)
    until_round: int | None = Field(None, ge=0, le=LAST_ROUND)

    def holds(self, round_: int) -> bool:
        """Whether the key is in force in a round."""
        return self.from_round <= round_ and (self.until_round is None or round_ < self.until_round)


class Roster(BaseModel):
    """The robots of a run. A change makes a new roster with a higher serial number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    run: Run
    serial: int = Field(1, ge=1)
    robots: tuple[RobotKey, ...] = ()

    def members(self, round_: int) -> tuple[str, ...]:
        """Names of the robots that have a key in force, sorted."""
        return tuple(sorted({robot.name for robot in self.robots if robot.holds(round_)}))

    @property
    def names(self) -> frozenset[str]:
        """Names of all robots that ever had a key."""
        return frozenset(robot.name for robot in self.robots)

    def keys(self, name: str) -> dict[str, RobotKey]:
        """All keys of a robot, by key id."""
        return {key_id(bytes.fromhex(robot.key)): robot for robot in self.robots if robot.name == name}

    def public_keys(self) -> dict[str, set[bytes]]:
        """Raw public keys by robot, of those whose end no round names."""
        found: dict[str, set[bytes]] = {}
        for robot in self.robots:
            if robot.until_round is None:
                found.setdefault(robot.name, set()).add(bytes.fromhex(robot.key))
        return found

    def add(self, name: str, key: bytes, from_round: int = 0) -> Roster:
        """Roster with one more robot, or one that comes back; `InputError` for a bad name, key or name in force."""
        if taken := next((r.name for r in self.robots if r.key == key.hex() and r.until_round is None), None):
            raise InputError(f"this key belongs to {taken} already: every robot needs a key of its own.")
        if any(r.until_round is None or r.until_round > from_round for r in self.robots if r.name == name):
            raise InputError(f"'{name}' has a key in force in round {from_round}: use `edgeflock fleet keys rotate`.")
        check_name(name)
        return self._with((*self.robots, RobotKey(name=name, key=key.hex(), from_round=from_round)))

    def revoke(self, name: str, at_round: int) -> Roster:
        """Roster in which no key of a robot is in force from a round on."""
        if not any(r.until_round is None or r.until_round > at_round for r in self.robots if r.name == name):
            known = ", ".join(self.members(at_round)) or "none"
            raise InputError(f"'{name}' has no key in force in round {at_round} or later: expected one of {known}.")
        kept = tuple(
            r.model_copy(update={"until_round": min(at_round, r.until_round or at_round)}) if r.name == name else r
            for r in self.robots
            if r.name != name or r.from_round < at_round
        )
        return self._with(kept)

    def rotate(self, name: str, key: bytes, at_round: int) -> Roster:
        """Roster in which a robot signs with another key from a round on."""
        revoked = self.revoke(name, at_round)
        added = revoked.add(name, key, at_round)
        return self._with(added.robots)

    @classmethod
    def begin(cls, run: str) -> Roster:
        """Empty roster of a run; `InputError` for a name that messages cannot carry."""
        try:
            return cls(run=run)
        except ValidationError:
            raise InputError(
                f"'{run}' cannot name a run: expected letters, digits, dots, hyphens and underscores, 64 at most."
            ) from None

    def _with(self, robots: tuple[RobotKey, ...]) -> Roster:
        return Roster(run=self.run, serial=self.serial + 1, robots=robots)


@dataclass(frozen=True)
class SignedRoster:
    """A roster and the raw public key (32 bytes) of the fleet that signed it."""

    roster: Roster
    fleet_key: bytes


def write_roster(path: Path, roster: Roster, fleet_key: Ed25519PrivateKey) -> None:
    """Sign and write a roster, atomically."""
    write_atomically(path, seal("roster", roster.model_dump(mode="json"), fleet_key))


def read_roster(path: Path, fleet_key: bytes | None = None) -> SignedRoster:
    """Read a roster's file and verify it.

    Parameters
    ----------
    path : Path
    fleet_key : bytes, optional
        Raw public key that must have signed it; without it the file's own is taken.

    Raises
    ------
    DataError
        It is not there, is no roster, was changed after signing, or another key signed it.
    """
    remedy = "Fetch the fleet's roster.json again, or make one with `edgeflock fleet keys init`."
    content, public = unseal(path, "roster", fleet_key, remedy)
    try:
        roster = Roster.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path} is no roster ({type(error).__name__}: {error}). {remedy}") from error
    return SignedRoster(roster, public)


def change_roster(folder: Path, change: Callable[[Roster], Roster], fleet_key: Ed25519PrivateKey) -> Roster:
    """Read the roster in a folder, change it, sign it and write it back."""
    path = folder / "roster.json"
    changed = change(read_roster(path, fleet_key.public_key().public_bytes_raw()).roster)
    write_roster(path, changed, fleet_key)
    return changed
