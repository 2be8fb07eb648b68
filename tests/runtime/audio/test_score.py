"""Tempo and phases of a song at any moment."""

import numpy as np
import pytest

from edgeflock.runtime.audio.score import Score
from edgeflock.runtime.errors import DataError


def test_phases_go_from_beat_to_beat_and_from_bar_to_bar_also_outside_the_beats():
    score = Score(np.array([1.0, 1.5, 2.0, 3.0, 4.0]))
    assert score.at(1.25) == pytest.approx((120, 0.5, 0.125))
    assert score.at(2.5) == pytest.approx((60, 0.5, 0.625))
    assert score.at(0.75) == pytest.approx((120, 0.5, 0.875))
    assert score.at(5.0) == pytest.approx((60, 0, 0.25))
    assert Score(np.array([1.0])).at(2) == (0, 0, 0)


def test_beats_are_read_from_json(tmp_path):
    file = tmp_path / "report.json"
    file.write_text('{"beats": [0.5, 1, 1.5], "music": "song.ogg"}')
    assert Score.read(file).beats.tolist() == [0.5, 1, 1.5]


@pytest.mark.parametrize("text", ["{}", "[1, 2]", '{"beats": [2, 1]}', '{"beats": ["a"]}', "{"])
def test_what_holds_no_beats_is_refused(tmp_path, text):
    (tmp_path / "beats.json").write_text(text)
    with pytest.raises(DataError, match=r"beats.json: expected JSON with beats"):
        Score.read(tmp_path / "beats.json")
