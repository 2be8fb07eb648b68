"""Reading a robot's folder while it grows, and whatever became of it."""

import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.watch.story import RobotFolder


def test_what_is_appended_is_taken_and_a_half_written_line_waits_for_its_end(log):
    written = log()
    written.mixes(1, heard=["r2"])
    folder = RobotFolder(written.folder)
    with (written.folder / "events.jsonl").open("a") as file:
        file.write('{"time": 9, "event": "mixed", "round": 2, ')
        file.flush()
        folder.read()
        assert folder.story.last == 1
        file.write('"heard": [], "missing": [], "loss": 0.1, "links": {}}\n')
    folder.read()
    assert folder.story.last == 2 and folder.story.unreadable == 0


def test_rounds_after_the_checkpoint_that_a_restart_goes_on_from_are_done_again(log):
    written = log()
    for k in (1, 2, 3):
        written.mixes(k, heard=["r2"])
    written.validates(3, 0.5)
    written.joins(after=2)
    story = RobotFolder(written.folder).story
    assert story.last == 2 and not story.validated


def test_a_run_that_begins_anew_forgets_what_was_refused(log):
    written = log()
    written.refuses("r2", "norm")
    written.joins()
    assert not RobotFolder(written.folder).story.rejected


def test_a_log_that_was_replaced_is_read_from_its_beginning(log, tmp_path):
    written = log()
    written.mixes(1)
    folder = RobotFolder(written.folder)
    other = log("r1", "other")
    other.mixes(5)
    (other.folder / "events.jsonl").replace(written.folder / "events.jsonl")
    folder.read()
    assert list(folder.story.mixed) == [5]


@pytest.mark.parametrize(
    "line", ["no json", "[]", '{"event": "mixed"}', '{"event": "validated", "round": "x"}', "\xff"]
)
def test_lines_that_are_no_events_are_counted_and_passed_over(log, line):
    written = log()
    with (written.folder / "events.jsonl").open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    written.mixes(1)
    story = RobotFolder(written.folder).story
    assert story.unreadable == 1 and story.last == 1


def test_a_damaged_status_leaves_the_one_before(log):
    written = log()
    written.stands(5.0, round=7)
    folder = RobotFolder(written.folder)
    (written.folder / "status.json").write_text('{"round": 8')
    folder.read()
    assert folder.status["round"] == 7


def test_a_folder_without_a_robots_log_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="--out folder of `edgeflock fleet join`"):
        RobotFolder(tmp_path)
