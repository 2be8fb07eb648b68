"""The process that makes the driving bundle beside learning and driving."""

import asyncio

import pytest

from edgeflock.runtime.fleet.peer.promoter import Promoter

pytest.importorskip("torch")


def run(story):
    return asyncio.run(asyncio.wait_for(story, 120))


def test_what_the_command_says_last_is_told_and_all_of_it_is_kept(tmp_path):
    said = []

    async def story():
        promoter = Promoter([str(tmp_path / "driving"), "--weights", "none"], tmp_path / "log", said.append, False)
        promoter.promote()
        promoter.promote()  # one that comes meanwhile waits for its turn, two make one
        await promoter.ended()

    run(story())
    assert len(said) in (1, 2) and said[0].strip()
    assert "none" in (tmp_path / "log").read_text()
    assert not (tmp_path / "driving").exists()


def test_closing_ends_it_and_twice_is_no_harm(tmp_path):
    async def story():
        promoter = Promoter(["--help"], tmp_path / "log", lambda line: None, False)
        await promoter.close()
        promoter.promote()
        await asyncio.sleep(0)
        await promoter.close()
        await promoter.close()

    run(story())
