"""`edgeflock bench faces`: what is counted, on real detectors and the net that ships."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgeflock.export.bench.faces import FRAMES, face_bars, markdown, measure
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces import Face, open_detector
from edgeflock.runtime.tasks.emotion import EmotionRecognizer

DARK = "half as bright"


@pytest.fixture(scope="module")
def net():
    return EmotionRecognizer(engine="onnxruntime-cpu")


def test_most_faces_are_found_and_read_and_their_cost_is_told(net) -> None:
    kinds = {name: FRAMES[name] for name in ("as it is", DARK)}
    rows = measure(open_detector("cascade", stream=True), net, 14, kinds)
    assert [row.frame for row in rows] == list(kinds)
    for row in rows:
        assert row.scenes == 14 and row.detector == "Haar"
        assert row.found > 0.5 and row.named_exact > 0.5 and row.extra < 0.5 and row.cpu_ms > 0
    assert DARK in markdown(rows)


def test_a_find_somewhere_else_is_no_face_found(net) -> None:
    def corner(image, encoding="rgb8"):
        return [Face((0.0, 0.0, 9.0, 9.0), 1.0)]

    [row] = measure(corner, net, 7, {"as it is": FRAMES["as it is"]})
    assert (row.found, row.extra) == (0, 1) and math.isnan(row.named) and row.named_exact > 0.3


@pytest.mark.parametrize("name", FRAMES)
def test_every_kind_of_frame_keeps_the_face_where_the_box_says(name) -> None:
    image, place = np.full((480, 640, 3), 40, np.uint8), (280, 200, 360, 280)
    image[200:280, 280:360] = 200
    frame, box = FRAMES[name](image, place)
    x, y = round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2)
    assert frame.shape[:2] == (480, 640) and frame.dtype == np.uint8
    assert frame[y, x].mean() > frame[y, round(box[2]) + 9].mean()


def test_the_verb_writes_what_it_prints(tmp_path, capsys) -> None:
    face_bars("cascade", 7, ["half"], True, None, tmp_path / "faces.json", None)
    record = json.loads((tmp_path / "faces.json").read_text())
    assert [row["frame"] for row in record["rows"]] == [DARK]
    with pytest.raises(InputError, match="expected --only to be in one of as it is, "):
        face_bars("cascade", 7, ["noon"], True, None, None, None)
    assert (tmp_path / "faces.md").read_text().strip() == capsys.readouterr().out.strip()
