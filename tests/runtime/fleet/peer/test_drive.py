"""Robots as drivers with learners in processes of their own, over TCP with TLS on loopback."""

import asyncio
import json
import os
import resource
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgeflock.runtime.bundle.signing import generate_key, read_private_key
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.fleet.peer.config import Part, PeerConfig, Place
from edgeflock.runtime.fleet.peer.join import Participant, by_tcp, join, schema_of
from edgeflock.runtime.fleet.peer.next_plan import NextPlan, write_next_plan
from edgeflock.runtime.fleet.peer.roster import Roster, write_roster
from edgeflock.runtime.fleet.peer.settings import Settings, settings_of
from edgeflock.runtime.fleet.peer.store import Store
from edgeflock.runtime.fleet.peer.trainer import Trainer, TrainerDied
from edgeflock.runtime.fleet.plan.schedule import make_plan

sys.path.insert(0, str(Path(__file__).parent))  # the learners' processes look there too
from pull import SIZE, PullTask

pytest.importorskip("zstandard")
NAMES = ("r1", "r2", "r3")
POINTS = {"r1": 1.0, "r2": 1.2, "r3": 1.4}
PATIENCE_S = 180.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Fleet:
    """Files and addresses of three robots."""

    def __init__(self, folder):
        self.folder = folder
        generate_key(folder / "fleet.pem")
        self.roster = Roster.begin("lab")
        for name in NAMES:
            self.roster = self.roster.add(name, generate_key(folder / f"{name}.pem").raw)
        write_roster(folder / "roster.json", self.roster, read_private_key(folder / "fleet.pem"))
        plan = make_plan(NAMES, np.array([[0, 3, 9], [3, 0, 4], [9, 4, 0.0]]), 1, "mst")
        (folder / "plan.json").write_text(plan.to_json())
        self.addresses = {name: ("127.0.0.1", free_port()) for name in NAMES}
        self.said = {name: [] for name in NAMES}

    def place(self, name, **changed):
        fields = {
            "own": name,
            "key": self.folder / f"{name}.pem",
            "roster": self.folder / "roster.json",
            "plan": self.folder / "plan.json",
            "out": self.folder / "runs" / name,
            "evaluate": 4,
            "idle": False,  # the machine may be busy with other tests
        }
        return Place(**(fields | changed))

    def participant(self, name, rounds=8, settle=4, task=None, addresses=None, private=None, **changed):
        private = private or {}
        config = PeerConfig(rounds=rounds, settle=settle, beat_s=0.3, ping_s=0.2, ceiling_s=10, **private)
        task = task or PullTask(silos=1, point=POINTS[name])
        settings = Settings(self.place(name, **changed), config, "pull", task)
        others = {other: at for other, at in self.addresses.items() if other != name}
        connect = by_tcp(name, self.addresses[name], others if addresses is None else addresses)
        return Participant(settings, connect, self.said[name].append)

    def join(self, name, **changed):
        return join(self.participant(name, **changed))

    def model(self, name):
        return load_file(self.folder / "runs" / name / "model.safetensors")["w"]

    def events(self, name, kind):
        lines = (self.folder / "runs" / name / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path)


def run(*stories):
    async def together():
        return await asyncio.wait_for(asyncio.gather(*stories), PATIENCE_S)

    return asyncio.run(together())


def test_three_robots_agree_on_what_none_of_them_has_seen_alone(fleet):
    run(*(fleet.join(name) for name in NAMES))
    for name in NAMES:
        assert np.abs(fleet.model(name) - 1.17).max() < 0.1  # near the mean of the points, where none trains to
        assert [event["round"] for event in fleet.events(name, "mixed")] == list(range(1, 13))
        assert not fleet.events(name, "rejected") and not fleet.events(name, "alarm")
        status = json.loads((fleet.folder / "runs" / name / "status.json").read_text())
        assert (status["round"], status["in_doubt"]) == (12, 0)
        assert {said["round"] for said in status["peers"].values()} == {12}
        assert {said["plan"] for said in status["peers"].values()} == {status["plan"]}


def test_a_robot_that_clips_and_noises_says_what_that_gives(fleet):
    pytest.importorskip("dp_accounting")
    private = {"clip": 0.5, "noise": 4.0}
    run(*(fleet.join(name, private=private if name == "r2" else {}) for name in NAMES))
    status = json.loads((fleet.folder / "runs" / "r2" / "status.json").read_text())
    assert status["privacy"]["releases"] == 8 and 0 < status["privacy"]["epsilon"] < 10
    assert f"released 8 updates, epsilon {status['privacy']['epsilon']:.2f} at delta 1e-05" in fleet.said["r2"][-1]
    assert "privacy" not in json.loads((fleet.folder / "runs" / "r1" / "status.json").read_text())
    assert np.abs(fleet.model("r2") - 1.17).std() > 0.1  # the noise is in what they agree on


def test_the_event_log_alone_tells_who_joined_what_went_where_and_how_good_the_models_are(fleet):
    run(*(fleet.join(name) for name in NAMES))
    (joined,) = fleet.events("r2", "joined")
    assert (joined["robot"], joined["run"], joined["round"], joined["rounds"]) == ("r2", "lab", 0, 12)
    bytes_sent = [event["links"]["r1"]["sent_bytes"] for event in fleet.events("r2", "mixed")]
    assert bytes_sent == sorted(bytes_sent) and bytes_sent[-1] > 0
    judged = fleet.events("r2", "validated")[-1]
    assert judged["round"] == 12 and judged["accepted"] and judged["figure"] == judged["figures"][judged["metric"]]


def test_a_robot_that_stopped_goes_on_after_its_last_round(fleet):
    run(*(fleet.join(name, rounds=4, settle=0) for name in NAMES))
    run(*(fleet.join(name, rounds=6, settle=0) for name in NAMES))
    assert [event["round"] for event in fleet.events("r1", "mixed")] == [1, 2, 3, 4, 5, 6]
    assert any("after round 4 of 6" in line for line in fleet.said["r1"])
    found = Store(fleet.folder / "runs" / "r1" / "checkpoints").load()
    assert found.learner["steps"][0] == 6  # the learner's own state went on too


def test_a_learner_that_is_killed_is_started_again_and_nobody_is_blocked(fleet, tmp_path):
    dying = PullTask(silos=1, point=1.2, dies_once=tmp_path / "died")
    run(*(fleet.join(name, rounds=4, settle=0, task=dying if name == "r2" else None) for name in NAMES))
    assert len(fleet.events("r2", "trainer")) == 1
    assert all(fleet.events(name, "finished") for name in NAMES)


def test_a_full_disk_stops_no_robot_and_is_told_when_there_is_room_again(fleet):
    """For some rounds the system refuses every write beyond 1 kB of a file, as it does on a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def mixed(name):
        return sum("mixed with" in line for line in fleet.said[name])

    async def fill():
        async def until(rounds):
            while any(mixed(name) < rounds for name in NAMES):
                await asyncio.sleep(0.01)

        try:
            await until(3)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
            await until(8)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    run(fill(), *(fleet.join(name, rounds=12, settle=4) for name in NAMES))
    for name in NAMES:
        assert [event["round"] for event in fleet.events(name, "mixed")] == list(range(1, 17))
        assert "store" in {event["what"] for event in fleet.events(name, "alarm")}
        assert Store(fleet.folder / "runs" / name / "checkpoints").load().round == 16
        assert np.abs(fleet.model(name) - 1.17).max() < 0.1


def test_a_revoked_robot_is_shut_out_while_the_fleet_runs(fleet):
    own_copy = fleet.folder / "old.json"
    own_copy.write_bytes((fleet.folder / "roster.json").read_bytes())

    def shut_out():
        status = json.loads((fleet.folder / "runs" / "r2" / "status.json").read_text())
        return "r3" in status["absent"] and list(status["links"]) == ["r1"] and status["waits_for"] in ([], ["r1"])

    async def story():
        everybody = [
            asyncio.ensure_future(fleet.join(name, rounds=99_999, **({"roster": own_copy} if name == "r3" else {})))
            for name in NAMES
        ]

        async def until(condition):
            while not condition():
                for task in everybody:
                    assert not task.done(), task.exception()
                await asyncio.sleep(0.05)

        events = fleet.folder / "runs" / "r2" / "events.jsonl"
        await until(events.exists)
        await until(lambda: any("r3" in event["heard"] for event in fleet.events("r2", "mixed")))
        newer = fleet.roster.revoke("r3", 1)
        write_roster(fleet.folder / "roster.json", newer, read_private_key(fleet.folder / "fleet.pem"))
        await until(shut_out)
        before = len(fleet.events("r2", "mixed"))
        # The two that are left go on.
        await until(lambda: ["r1"] in [event["heard"] for event in fleet.events("r2", "mixed")[before + 1 :]])
        for task in everybody:
            task.cancel()
        await asyncio.gather(*everybody, return_exceptions=True)

        return before + 1  # the round before may have had its model already

    [later] = run(story())
    assert all(event["heard"] in ([], ["r1"]) for event in fleet.events("r2", "mixed")[later:])


def test_a_robot_that_is_held_leaves_and_comes_back_where_the_others_are(fleet):
    async def story():
        held = fleet.participant("r2", rounds=99_999)
        others = [asyncio.ensure_future(fleet.join(name, rounds=99_999)) for name in ("r1", "r3")]
        held_one = asyncio.ensure_future(join(held))

        async def until(condition):
            while not condition():
                for task in (*others, held_one):
                    assert not task.done(), task.exception()
                await asyncio.sleep(0.05)

        def rounds(name):
            return [event["round"] for event in fleet.events(name, "mixed")]

        await until(lambda: (fleet.folder / "runs" / "r2" / "events.jsonl").exists() and len(rounds("r2")) > 2)
        held.hold("pause")
        held.hold("battery")
        await held.rests()
        done, others_done = rounds("r2"), rounds("r1")[-1]
        assert held.status()["phase"] == "left" and held.status()["held"] == ["battery", "pause"]
        await until(lambda: rounds("r1")[-1] > others_done + 20)  # it holds nobody up
        held.release("pause")
        await asyncio.sleep(0)
        assert rounds("r2") == done and held.held == {"battery"}
        held.release("battery")
        await until(lambda: len(rounds("r2")) > len(done) + 2)
        assert rounds("r2")[len(done)] > others_done + 20 - PeerConfig().behind
        for task in (*others, held_one):
            task.cancel()
        await asyncio.gather(*others, held_one, return_exceptions=True)

    run(story())


def test_a_learner_that_may_work_a_quarter_of_the_time_rests_the_other_three():
    async def story():
        trainer = Trainer(PullTask(silos=1, lesson_s=0.1), Part(duty=0.25, idle=False))
        try:
            start, _ = await trainer.start()
            began = time.monotonic()
            await trainer.train(1, start)
            assert time.monotonic() - began >= 0.4
        finally:
            trainer.close()

    asyncio.run(story())


def test_the_learner_stands_back_behind_the_rest_of_the_robot():
    async def story():
        trainer = Trainer(PullTask(silos=1), Part())
        try:
            start, shapes = await trainer.start()
            figures = await trainer.evaluate(start)
            assert figures["policy"] == os.SCHED_IDLE
            assert (len(start), shapes) == (SIZE, [("w", f"({SIZE},)")])
        finally:
            trainer.close()

    asyncio.run(story())


def test_a_learner_says_in_its_own_words_what_is_wrong_with_its_data():
    async def story():
        trainer = Trainer(PullTask(silos=1, broken=True), Part(idle=False))
        try:
            with pytest.raises(DataError, match="frame 7 is broken"):
                await trainer.start()
        finally:
            trainer.close()

    asyncio.run(story())


def test_a_learner_that_is_not_there_is_no_hang():
    async def story():
        trainer = Trainer(PullTask(silos=1), Part())
        with pytest.raises(TrainerDied):
            await trainer.evaluate(np.ones(SIZE, np.float32))

    asyncio.run(story())


def test_a_wrong_key_and_a_missing_address_are_refused_before_anything_starts(fleet):
    with pytest.raises(InputError, match=r"r2\.pem .* is not the key of 'r1'"):
        run(fleet.join("r1", key=fleet.folder / "r2.pem"))
    with pytest.raises(InputError, match="--peer r3=HOST:PORT"):
        run(fleet.join("r1", addresses={"r2": fleet.addresses["r2"]}))


def test_another_net_is_another_schema():
    task = PullTask(silos=1)
    schema = schema_of("pull", task, SIZE, [("w", "(2000,)")])
    assert schema == schema_of("pull", PullTask(silos=1, point=2.0), SIZE, [("w", "(2000,)")])
    assert schema != schema_of("pull", task, SIZE, [("w", "(2000, 1)")])
    assert schema != schema_of("pull", PullTask(silos=1, batch_norm="local"), SIZE, [("w", "(2000,)")])


def test_an_unknown_setting_names_the_known_ones():
    assert settings_of(["keep=0.2"], {"keep": 1}) == {"keep": "0.2"}
    for text in ("kep=1", "keep"):
        with pytest.raises(InputError, match="one of the keys keep"):
            settings_of([text], {"keep": 1})


def test_robots_measure_their_links_and_each_knows_the_whole_matrix(fleet):
    run(*(fleet.join(name, rounds=8) for name in NAMES))
    for name in NAMES:
        status = json.loads((fleet.folder / "runs" / name / "status.json").read_text())
        delay = status["delays"]["delay_ms"]
        assert {(a, b) for a, row in delay.items() for b in row} == {(a, b) for a in NAMES for b in NAMES if a != b}
        assert all(0 < ms < 5000 for row in delay.values() for ms in row.values())
        assert fleet.events(name, "delays")


def test_all_go_over_to_the_next_plan_and_one_that_starts_again_follows_it(fleet):
    key = read_private_key(fleet.folder / "fleet.pem")
    ring = make_plan(NAMES, np.array([[0, 3, 9], [3, 0, 4], [9, 4, 0.0]]), 1, "ring")
    path = fleet.folder / "next-plan.json"
    write_next_plan(path, NextPlan(ring, 5), fleet.roster, key)
    run(*(fleet.join(name, rounds=6, settle=2) for name in NAMES))
    for name in NAMES:
        assert [(event["plan"], event["round"]) for event in fleet.events(name, "next_plan")] == [(ring.hash, 5)]
        assert json.loads((fleet.folder / "runs" / name / "status.json").read_text())["plan"] == ring.hash
    run(*(fleet.join(name, rounds=8, settle=2) for name in NAMES))  # --plan still names the old one
    for name in NAMES:
        assert json.loads((fleet.folder / "runs" / name / "status.json").read_text())["plan"] == ring.hash
        assert not fleet.events(name, "alarm") and len(fleet.events(name, "next_plan")) == 1


def test_a_plan_of_another_key_or_run_is_not_taken_and_an_alarm_says_so(fleet):
    other = generate_key(fleet.folder / "other.pem")
    ring = make_plan(NAMES, np.array([[0, 3, 9], [3, 0, 4], [9, 4, 0.0]]), 1, "ring")
    key = read_private_key(fleet.folder / "other.pem")
    write_next_plan(fleet.folder / "next-plan.json", NextPlan(ring, 3), fleet.roster, key)
    run(*(fleet.join(name, rounds=4, settle=0) for name in NAMES))
    for name in NAMES:
        (alarm,) = fleet.events(name, "alarm")
        assert alarm["what"] == "next_plan" and other.key_id in alarm["why"]
        assert json.loads((fleet.folder / "runs" / name / "status.json").read_text())["plan"] != ring.hash
