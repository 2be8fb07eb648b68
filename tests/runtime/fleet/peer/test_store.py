"""Checkpoints: what comes back after kill -9 at any write, a damaged file, a full disk."""

import subprocess
import sys

import numpy as np
import pytest

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.fleet.peer.store import Store

PEER = {"state": np.arange(5, dtype=np.float32), "own.3": np.ones(5, np.float32)}, {"run": "lab", "round": 3}
LEARNER = {"net.w": np.zeros((2, 2), np.float32), "adam.0.step": np.array(7.0, np.float32)}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def save(store, round_, peer=PEER):
    store.save(round_, peer, LEARNER, {"why": "test"})


def test_a_checkpoint_comes_back_whole(store):
    save(store, 3)
    found = store.load()
    assert (found.round, found.peer[1], found.facts) == (3, PEER[1], {"why": "test"})
    for tensors, expected in ((found.peer[0], PEER[0]), (found.learner, LEARNER)):
        assert tensors.keys() == expected.keys()
        assert all(np.array_equal(tensors[name], expected[name]) for name in expected)


def test_an_empty_folder_has_none(store):
    assert store.load() is None


def test_the_newest_few_are_kept(store, tmp_path):
    for k in range(1, 7):
        save(store, k)
    assert sorted(path.name[:14] for path in tmp_path.glob("round-*")) == [f"round-0000000{k}" for k in (4, 5, 6)]
    assert store.load().round == 6


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50] + b"?" + b[51:], lambda b: b""])
def test_a_damaged_one_is_passed_over_and_named(store, tmp_path, damage):
    save(store, 1)
    save(store, 2)
    (newest,) = tmp_path.glob("round-00000002*")
    newest.write_bytes(damage(newest.read_bytes()))
    assert store.load().round == 1
    assert store.damaged == [newest]


def test_a_round_done_again_after_an_older_checkpoint_counts(store, tmp_path):
    save(store, 2)
    save(store, 2, ({"state": np.full(5, 9, np.float32)}, {"run": "lab", "round": 2}))
    assert store.load().round == 2
    assert len(list(tmp_path.glob("round-*"))) == 2


def test_boot_numbers_rise_and_follow_the_clock(store, tmp_path):
    assert [store.boot(0), store.boot(0), store.boot(100), store.boot(50)] == [1, 2, 100, 101]
    assert Store(tmp_path).boot(0) == 102


def test_a_boot_file_without_a_number_says_what_to_do(store, tmp_path):
    (tmp_path / "boot").write_text("?")
    with pytest.raises(DataError, match="write the last boot number into it, or remove it"):
        store.boot(0)


def test_clearing_removes_rounds_but_never_the_boot_number(store):
    store.boot(0)
    save(store, 1)
    store.clear()
    assert store.load() is None
    assert store.boot(0) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from edgeflock.runtime.fleet.peer.store import Store

store, left = Store(Path(sys.argv[1])), int(sys.argv[2])
peer = {"state": np.full(5, 2, np.float32)}, {"round": 2}
for k in (1, 2, 3):
    store.save(k, peer, {})

def deadly(name, owner):
    real = getattr(owner, name)

    def call(*args, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    setattr(owner, name, call)

for name, owner in (("open", os), ("fsync", os), ("replace", Path), ("write_bytes", Path), ("unlink", Path)):
    deadly(name, owner)
store.save(4, peer, {})
print("survived")
"""


def test_kill_9_at_any_write_leaves_the_round_before_or_this_one(tmp_path):
    seen, survived = set(), False
    for point in range(20):
        folder = tmp_path / str(point)
        done = subprocess.run([sys.executable, "-c", KILLED, folder, str(point)], capture_output=True, text=True)
        assert done.returncode == (0 if "survived" in done.stdout else -9), done.stderr
        found = Store(folder)
        seen.add(found.load().round)
        assert not found.damaged
        assert not list(folder.glob(".*"))  # the draft of a write that did not end is gone
        if survived := "survived" in done.stdout:
            break
    assert survived and seen == {3, 4} and point >= 5
