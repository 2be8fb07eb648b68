"""What a demonstration concludes from its drives, and what its page shows."""

import json

import numpy as np
import pytest

from edgeflock_lab.demo.drives import drivers, outcomes, shortfalls
from edgeflock_lab.demo.exchanges import read_links
from edgeflock_lab.demo.report import Story, write_story
from edgeflock_lab.demo.scene import ALL, HOMES, alone, fleet

pytest.importorskip("matplotlib")
image = pytest.importorskip("PIL.Image")

STRANGE = {(alone(robot), home): 3.0 for robot in HOMES for home in HOMES if home != robot}


def test_the_fleet_has_to_come_as_far_as_every_own_net_in_every_world(scene, driven):
    folder = driven({**STRANGE, (fleet("r1"), "r1"): 19.5, (fleet("r1"), "r3"): 2.5})
    found = outcomes(scene, folder)
    # The robots agree, so one net drives for all of them; r1 and r3 came to the end at home, r2 in no other world.
    assert shortfalls(found) == [
        ("r1", "r1", 0.5),
        ("r1", "r3", 0.5),
        ("r2", "r3", 0.5),
        ("r3", "r3", 17.5),
    ]


def test_beyond_the_end_of_the_course_nobody_is_better(scene, driven):
    folder = driven({**STRANGE, (alone("r1"), "r1"): 24.0, (fleet("r1"), "r1"): 21.0})
    assert shortfalls(outcomes(scene, folder)) == []
    assert outcomes(scene, folder)[fleet("r1"), "r1"].whole


def test_robots_that_do_not_agree_drive_each(driven):
    apart = {robot: np.full(3, n, np.float32) for n, robot in enumerate(HOMES)}
    by = drivers(driven({}, apart.get))
    assert by == {net: net for net in by} and len(by) == 7


def test_a_robot_that_was_started_again_counts_its_bytes_on(tmp_path):
    def log(name, sent):
        lines = [
            {"time": 5.0 + k, "event": "mixed", "round": k, "heard": ["b" if name == "a" else "a"],
             "links": {"b" if name == "a" else "a": {"sent_bytes": count}}}
            for k, count in enumerate(sent)
        ]  # fmt: skip
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / name

    links = read_links({"a": log("a", [10, 30, 5, 25]), "b": log("b", [7])})
    assert [(link.sender, link.receiver, link.sent_bytes) for link in links] == [("a", "b", 55), ("b", "a", 7)]
    assert [link.mixed_s for link in links] == [[0.0], [0.0, 1.0, 2.0, 3.0]]


def test_the_page_shows_every_drive_the_exchange_and_how_it_was_compared(scene, driven):
    folder = driven(STRANGE)
    story = Story.read(scene, folder, {"record": 12.0})
    write_story(story, folder)
    page = (folder.path / "report.html").read_text()
    assert "3 by what each robot learnt alone, 9 by what the fleet learnt" in page
    for home in HOMES:
        for net in (*map(alone, HOMES), "r1-fleet", ALL):
            assert f"drives/{net}/{home}/report.html" in page
    for words in ("demo.gif", "ways.png", "exchange.png", "12 MB sent, over TCP", "same random weights", "building B"):
        assert words in page
    facts = json.loads((folder.path / "demo.json").read_text())
    assert facts["reached"] and len(facts["drives"]) == 21
    assert {link["bytes"] for link in facts["links"]} == {2_000_000}
    gif = image.open(folder.path / "demo.gif")
    assert gif.size == (648, 368) and gif.n_frames == 6
    for name in ("ways.png", "exchange.png"):
        assert image.open(folder.path / name).size[0] > 900
