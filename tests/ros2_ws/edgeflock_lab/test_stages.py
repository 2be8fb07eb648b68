"""What the stages share: times that outlive an interruption, and processes whose first error ends the stage."""

import json
import math
import time

import pytest
from rich.console import Console

from edgeflock_lab.stages import Clock, in_processes, rounds_bar


def test_the_time_of_a_stage_adds_up_over_interruptions(tmp_path):
    with pytest.raises(KeyboardInterrupt), Clock(tmp_path / "seconds.json").stage("drive"):
        time.sleep(0.02)
        raise KeyboardInterrupt
    first = json.loads((tmp_path / "seconds.json").read_text())["drive"]
    assert first >= 0.02
    again = Clock(tmp_path / "seconds.json")
    with again.stage("drive"):
        time.sleep(0.02)
    assert again.seconds["drive"] >= first + 0.02


def test_work_in_processes_tells_what_is_done_and_raises_what_failed():
    done = []
    in_processes(math.sqrt, [(4.0,), (9.0,)], 2, done.append)
    assert done == [1, 2]
    with pytest.raises(ValueError, match="math domain"):
        in_processes(math.sqrt, [(-1.0,)], 1, done.append)


def test_rounds_of_nets_that_learn_side_by_side_add_up(tmp_path):
    with (
        (tmp_path / "shown").open("w") as shown,
        rounds_bar("learn", 4, Console(file=shown, width=80)) as on_round,
    ):
        for net, rounds in (("a", 1), ("b", 1), ("a", 2), ("a", 2)):
            on_round(net, rounds)
    assert "3/4" in (tmp_path / "shown").read_text()
