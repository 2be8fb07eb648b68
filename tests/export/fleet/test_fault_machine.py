"""Schedules of faults that hypothesis thinks up: whatever happens to a fleet, all its promises hold.

A longer search: pytest tests/export/fleet/test_fault_machine.py --hypothesis-profile long
"""

import random
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from small_fleets import CALM, fleet_of

from edgeflock.export.fleet.fault_runs import DRIFT, LIES, LIMIT_S
from edgeflock.runtime.fleet.transports.memory import Faults

NAMES = ("r0", "r1", "r2", "r3")
USUAL, SHORT = settings.get_profile("default").max_examples, 8
"""Runs of hypothesis where nobody asks for more, and of this machine then: each takes about a second."""
robots = st.sampled_from(NAMES)
conditions = st.builds(
    lambda low, spread, **chances: Faults(delay_ms=(low, low * spread), **chances),
    low=st.floats(1, 100),
    spread=st.floats(1, 5),
    **dict.fromkeys(("drop", "duplicate", "reorder", "corrupt", "truncate"), st.sampled_from([0.0, 0.1, 0.4])),
)


class FaultyFleet(RuleBasedStateMachine):
    """Robots r0 to r3 in one clock, a network that may do anything, and what can happen to each of them."""

    @initialize(
        base=st.sampled_from(["ring", "mst", "star", "complete"]),
        codec=st.sampled_from(["fp32", "fp16", "int8", "topk"]),
        t=st.integers(1, 3),
        seed=st.integers(0, 99),
    )
    def begin(self, base, codec, t, seed):
        self.fleet = fleet_of(
            4, base, t, seed, rounds=10, settle=2, codec=codec, keep=0.3, snapshot_every=5, skew_s=86400,
            floor_s=0.5, ceiling_s=4, silent_s=3, join_s=3,
        )  # fmt: skip
        self.chance = random.Random(seed)
        self.messages = []  # under way once: to be said again
        self.gentle = True  # nobody crashed, left or lied
        self.lost = dict.fromkeys(NAMES, 0)  # rounds that a robot may go back
        self.links(CALM)
        self.fleet.start()

    def links(self, faults):
        def record(source, target, message):
            self.messages = [*self.messages[-50:], (source, target, message)]
            return faults

        self.fleet.network.set_faults(record)

    def is_on(self, name):
        return self.fleet.robots[name].peer is not None

    @rule(seconds=st.floats(0.05, 4))
    def let_time_pass(self, seconds):
        end = self.fleet.now_ns + round(seconds * 1e9)
        self.fleet.run(lambda: self.fleet.now_ns >= end, limit_s=seconds)

    @rule(faults=conditions)
    def change_all_links(self, faults):
        self.links(faults)

    @rule(side=st.sets(robots, min_size=1, max_size=3))
    def part(self, side):
        self.fleet.network.part(side, set(NAMES) - side)

    @rule()
    def heal(self):
        self.fleet.network.heal()

    @rule(name=robots, older=st.integers(0, 3), emptied=st.booleans(), gone=st.booleans())
    def switch(self, name, older, emptied, gone):
        """Power off or leave; or come back from the disk, an older one, or an empty one."""
        fleet = self.fleet
        if fleet.robots[name].stalled:
            return
        if self.is_on(name):
            self.gentle = False
            self.lost[name] += 1
            fleet.leave(name) if gone else fleet.crash(name)
        else:
            self.lost[name] += fleet.config.last if emptied else older
            fleet.restart(name, older, emptied)

    @rule(name=robots, seconds=st.floats(0.1, 5))
    def stall(self, name, seconds):
        if self.is_on(name) and not self.fleet.robots[name].stalled:
            self.fleet.stall(name, seconds)

    @rule(name=robots, how=st.sampled_from([None, *LIES]))
    def lie(self, name, how):
        if self.is_on(name) and not self.fleet.robots[name].stalled:
            self.gentle &= how is None
            self.fleet.lie(name, LIES[how] if how else None)

    @precondition(lambda self: self.messages)
    @rule(number=st.integers(0, 50), bit=st.none() | st.integers(0, 10**6))
    def say_again(self, number, bit):
        """Replay a recorded message, as it was or with a bit flipped."""
        source, target, message = self.messages[number % len(self.messages)]
        if bit is not None and message:
            changed = bytearray(message)
            changed[bit // 8 % len(changed)] ^= 1 << bit % 8
            message = bytes(changed)
        self.fleet.inject(source, target, message)

    @rule(link=st.permutations(NAMES), noise=st.binary(max_size=200), head=st.sampled_from([b"", b"EFP1", b"EFP1C"]))
    def say_noise(self, link, noise, head):
        self.fleet.inject(link[0], link[1], head + noise)

    @invariant()
    def nobody_has_a_model_that_nobody_trained(self):
        if hasattr(self, "fleet"):
            models = self.fleet.models()
            assert np.isfinite(models).all() and (not models.size or np.abs(models - 1).max() < 3)

    def teardown(self):
        """In the end all is well again: everybody does all rounds, and what could be kept was kept."""
        fleet = self.fleet
        fleet.network.heal()
        self.links(CALM)
        for name in NAMES:
            if not self.is_on(name):
                fleet.restart(name)
        assert fleet.run(limit_s=LIMIT_S), {name: fleet.peer(name).status() for name in NAMES}
        self.nobody_has_a_model_that_nobody_trained()
        for name in NAMES:
            rounds = [mixed.round for who, mixed in fleet.mixed if who == name]
            back = sum(max(0, before + 1 - after) for before, after in pairwise(rounds))
            assert fleet.peer(name).round == fleet.config.last
            assert back <= self.lost[name], f"{name} went back {back} rounds, at most {self.lost[name]} were lost"
        if self.gentle and fleet.plan.mutual and fleet.plan.base != "star" and not fleet.tally()["pulled"]:
            assert fleet.drift() < DRIFT
        note(f"{fleet.now_ns / 1e9:.0f} s, {dict(fleet.tally())}, refused {dict(fleet.counts())}")


TestFaultyFleet = FaultyFleet.TestCase
TestFaultyFleet.settings = settings(
    max_examples=SHORT if settings().max_examples == USUAL else settings().max_examples,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
