"""What the page shows of a fleet, live and of a round of the past."""

import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer.wire import Code
from edgeflock.runtime.fleet.watch import view
from edgeflock.runtime.fleet.watch.view import REASONS, Fleet, amount, duration


@pytest.fixture
def now(monkeypatch):
    """Sets the clock of the viewer."""
    return lambda time: monkeypatch.setattr(view.time, "time", lambda: time)


def by_name(found):
    return {robot.name: robot for robot in found.robots}


def test_a_robots_own_folder_says_its_round_its_model_and_whom_it_mixed_with(log, now):
    written = log()
    written.validates(1, 0.25)
    written.mixes(2, heard=["r2"], missing=["r3"])
    written.validates(2, 0.5, accepted=False)
    written.stands(written.time, round=3, phase="waiting", waits_for=["r2"])
    now(written.time + 2)
    robot = by_name(Fleet([written.folder]).look())["r1"]
    assert (robot.state, robot.tone, robot.round) == ("waits for r2", "good", 3)
    assert (robot.heard, robot.missing) == (("r2",), ("r3",))
    assert (robot.model.figure, robot.model.round, robot.model.age_s) == (0.25, 1, 4.0)
    assert robot.model.history == ((1, 0.25, True), (2, 0.5, False))


@pytest.mark.parametrize(
    ("phase", "still_s", "state", "tone"),
    [
        ("training", 3, "training", "good"),
        ("joining", 3, "joining", "warn"),
        ("training", 90, "no sign for 90 s", "bad"),
        ("left", 90, "left", "off"),
        ("done", 2, "done", "good"),
    ],
)
def test_a_live_robots_state(log, now, phase, still_s, state, tone):
    written = log()
    written.stands(written.time, phase=phase)
    now(written.time + still_s)
    (robot,) = Fleet([written.folder]).look().robots
    assert (robot.state, robot.tone) == (state, tone)


def test_robots_without_a_folder_are_shown_as_the_freshest_of_their_peers_heard_them(log, now):
    r1, r2 = log("r1"), log("r2")
    plan = "ab" * 32
    said = {"plan": plan, "view": plan, "left": False}
    r1.stands(r1.time, peers={"r3": said | {"round": 4, "silent_s": 30.0, "absent": []}}, absent=["r3"])
    r2.stands(r2.time, peers={"r3": said | {"round": 5, "silent_s": 0.5, "absent": ["r1"]}, "r4": {"round": None}})
    now(r1.time)
    robots = by_name(Fleet([r1.folder, r2.folder]).look())
    assert (robots["r3"].told_by, robots["r3"].round, robots["r3"].state) == ("r2", 5, "there, misses r1")
    assert (robots["r4"].state, robots["r4"].tone) == ("not heard yet", "off")


def test_a_round_of_the_past_is_as_it_was_at_its_end(log):
    written = log()
    written.mixes(1, heard=["r2"])
    written.validates(1, 0.5)
    written.refuses("r2", "norm")
    written.mixes(2, missing=["r2"])
    written.validates(2, 0.25)
    written.mixes(3, heard=["r2"])
    written.refuses("r2", "stale")
    fleet = Fleet([written.folder])
    past = fleet.look(2)
    robots, (link,) = by_name(past), past.links
    assert not past.live and past.round == 2 and past.newest == 3
    assert (robots["r1"].tone, robots["r2"].state) == ("warn", "missing")
    assert (link.mixed, link.last_mixed, link.bytes_ab, link.bytes_ba) == (False, 1, 2000, 4000)
    assert [(refusal.reason, refusal.count) for refusal in past.refusals] == [("norm", 1)]
    assert robots["r1"].model.figure == 0.25
    assert by_name(fleet.look(1))["r1"].model.figure == 0.5


def test_the_bytes_of_a_link_are_the_senders_count_where_its_folder_is_there(log):
    r1, r2 = log("r1"), log("r2")
    r1.mixes(1, heard=["r2"])
    r2.mixes(1, heard=["r1"], to=("r1",))
    (link,) = Fleet([r1.folder, r2.folder]).look().links
    assert (link.bytes_ab, link.bytes_ba) == (1000, 1000)


def test_delays_are_those_that_the_sender_measured_last_before_a_round(log):
    r1, r2 = log("r1"), log("r2")
    for ms, k in ((3.0, 1), (5.0, 2)):
        r1.writes("delays", delay_ms={"r1": {"r2": ms}, "r2": {"r1": 9.0}}, bandwidth_bps={})
        r1.mixes(k, heard=["r2"])
    r1.writes("delays", delay_ms={"r1": {"r2": 7.0}}, bandwidth_bps={})
    r2.writes("delays", delay_ms={"r2": {"r1": 4.0}}, bandwidth_bps={})
    fleet = Fleet([r1.folder, r2.folder])
    ways = [[(link.ms_ab, link.ms_ba) for link in fleet.look(k).links] for k in (1, None)]
    assert ways == [[(5.0, 4.0)], [(7.0, 4.0)]]


def test_every_reason_of_a_refusal_has_its_meaning():
    assert set(REASONS) == set(Code) - {Code.ACCEPTED, Code.MIXED, Code.SKIPPED}


def test_folders_of_two_runs_or_of_one_robot_twice_are_refused(log):
    first = log()
    with pytest.raises(InputError, match="one run at a time"):
        Fleet([first.folder, log("r2", run="yard").folder])
    with pytest.raises(InputError, match="more than one folder is of r1"):
        Fleet([first.folder, log("r1", "copy").folder])


def test_figures_for_a_person():
    assert [duration(s) for s in (0.4, 59, 119, 120, 7200, 200_000)] == ["0 s", "59 s", "119 s", "2 min", "2 h", "2 d"]
    assert [amount(b) for b in (0, 812, 1234, 45_300_000, 2e12)] == ["0 B", "812 B", "1.2 kB", "45 MB", "2000 GB"]
