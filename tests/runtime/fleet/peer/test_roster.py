"""Who belongs to a fleet, by which key, in which rounds; and the file that says so."""

import json

import pytest

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.peer.roster import Roster, change_roster, read_roster, write_roster
from edgeflock.runtime.fleet.peer.sealed import seal


def test_an_added_robot_is_a_member_from_its_round_on(public):
    roster = Roster(run="lab").add("a", public["a"]).add("b", public["b"], from_round=5)
    assert [roster.members(k) for k in (0, 4, 5)] == [("a",), ("a",), ("a", "b")]
    assert roster.serial == 3


def test_a_revoked_robot_is_none_from_its_round_on(roster):
    assert roster.revoke("b", 7).members(6) == ("a", "b", "c")
    assert roster.revoke("b", 7).members(7) == ("a", "c")


def test_a_robot_that_was_revoked_before_it_began_leaves_no_key(roster, public):
    later = roster.add("d", public["stranger"], from_round=10).revoke("d", 5)
    assert "d" not in later.names


def test_a_rotated_key_follows_the_old_one_without_a_gap(roster, public):
    rotated = roster.rotate("b", public["stranger"], 9)
    assert rotated.members(8) == rotated.members(9) == ("a", "b", "c")
    old, new = (robot for robot in rotated.robots if robot.name == "b")
    assert (old.holds(8), old.holds(9), new.holds(8), new.holds(9)) == (True, False, False, True)


def test_no_two_robots_share_a_key_and_no_robot_has_two(roster, public):
    with pytest.raises(InputError, match="belongs to a already"):
        roster.add("d", public["a"])
    with pytest.raises(InputError, match="keys rotate"):
        roster.add("a", public["stranger"])


def test_an_unknown_robot_cannot_be_revoked(roster):
    with pytest.raises(InputError, match="expected one of a, b, c"):
        roster.revoke("d", 1)


def test_a_written_roster_reads_back_verified(tmp_path, roster, keys, public):
    write_roster(tmp_path / "roster.json", roster, keys["stranger"])
    found = read_roster(tmp_path / "roster.json", public["stranger"])
    assert (found.roster, found.fleet_key) == (roster, public["stranger"])


def test_a_change_after_signing_is_found(tmp_path, roster, keys):
    content = json.loads(seal("roster", roster.model_dump(mode="json"), keys["stranger"]))
    content["roster"]["robots"][0]["name"] = "mallory"
    (tmp_path / "roster.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed after the fleet's key signed it"):
        read_roster(tmp_path / "roster.json")


def test_a_roster_of_another_fleet_is_refused(tmp_path, roster, keys, public):
    write_roster(tmp_path / "roster.json", roster, keys["a"])
    with pytest.raises(DataError, match="belongs to another fleet"):
        read_roster(tmp_path / "roster.json", public["stranger"])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"roster": 1, "fleet_key": "00", "signature": ""}'])
def test_what_is_no_roster_is_refused_with_the_way_to_one(tmp_path, content):
    (tmp_path / "roster.json").write_bytes(content)
    with pytest.raises(DataError, match="fleet keys init"):
        read_roster(tmp_path / "roster.json")


def test_a_change_keeps_the_file_signed(tmp_path, roster, keys, public):
    write_roster(tmp_path / "roster.json", roster, keys["stranger"])
    changed = change_roster(tmp_path, lambda old: old.revoke("c", 2), keys["stranger"])
    assert read_roster(tmp_path / "roster.json", public["stranger"]).roster == changed
    assert changed.serial == roster.serial + 1
