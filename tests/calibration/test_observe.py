"""Observation: exact whatever the memory budget, found again by content, and no crash or broken file changes it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeflock.calibration import observe as observing
from edgeflock.calibration.cache import default_folder
from edgeflock.calibration.observe import observe
from edgeflock.runtime.errors import InputError


def same(a, b):
    return list(a) == list(b) and all(
        (a[n].exponent, a[n].lows, a[n].highs) == (b[n].exponent, b[n].lows, b[n].highs)
        and np.array_equal(a[n].counts, b[n].counts)
        for n in a
    )


@pytest.fixture
def net(small_net):
    return small_net()


@pytest.fixture
def feeds():
    return {"x": np.random.default_rng(0).integers(0, 256, (10, 2, 8, 8), np.uint8)}


@pytest.fixture
def said():
    """Lines that were said, and `on_progress` that collects them."""
    lines, steps = [], []

    def on_progress(done, total, text):
        steps.append((done, total))
        lines.extend([text] if text else [])

    on_progress.lines, on_progress.steps = lines, steps
    return on_progress


def test_every_activation_is_counted(net, feeds, tmp_path):
    seen = observe(net, feeds, cache=tmp_path)
    assert list(seen) == ["x", "conv0", "relu0", "conv1", "y"]
    assert all(histogram.samples == 10 and histogram.counts.sum() == feeds["x"].size for histogram in seen.values())
    assert (seen["x"].low, seen["x"].high) == (feeds["x"].min(), feeds["x"].max())
    session = onnxruntime.InferenceSession(net.SerializeToString())
    highs = [session.run(["y"], {"x": image[None].astype(np.float32)})[0].max() for image in feeds["x"]]
    np.testing.assert_allclose(seen["y"].highs, sorted(highs), rtol=1e-5)


def test_any_budget_gives_the_same(net, feeds, tmp_path):
    whole = observe(net, feeds, cache=tmp_path / "0")
    for budget in (1, 2 * 512, 3 * 512):  # one tensor at a time, two, three
        assert same(observe(net, feeds, cache=tmp_path / str(budget), budget=budget), whole)


MEMORY = """
import re, sys
import numpy as np, onnx, onnxruntime
from pathlib import Path
from edgeflock.calibration.observe import observe
net, cache, budget = onnx.load(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
scan = np.ones((2, 2, 64, 64, 64), np.uint8)
def peak():  # not ru_maxrss, which begins with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
observe(net, {"x": scan[:1]}, cache=cache / "warm", budget=1)
before = peak()
observe(net, {"x": scan}, cache=cache / "cold", budget=budget)
print(peak() - before)
"""


def test_memory_stays_within_the_budget(small_net, tmp_path):
    """33 tensors of 2 MB: beyond one at a time, as many as the budget allows and some working memory, or all."""
    onnx.save(small_net((1, 2, 64, 64, 64), layers=16), tmp_path / "net.onnx")

    def growth(budget):
        line = [sys.executable, "-c", MEMORY, tmp_path / "net.onnx", tmp_path / str(budget), str(budget)]
        return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)

    assert growth(16 << 20) < 48 << 20
    assert growth(512 << 20) > 54 << 20  # the measurement sees what it should


# ---- cache


def test_a_second_time_nothing_is_run(net, feeds, tmp_path, said, monkeypatch):
    first = observe(net, feeds, cache=tmp_path)
    monkeypatch.setattr(observing, "_session", lambda *_: pytest.fail("the net was run"))
    assert same(observe(net, feeds, cache=tmp_path, on_progress=said), first)
    assert said.lines == ["all seen before"]


def test_a_miss_says_what_differs_from_the_nearest_entry(net, feeds, small_net, tmp_path, said, monkeypatch):
    observe(net, feeds, cache=tmp_path, on_progress=said)
    assert said.lines == []
    observe(net, {"x": feeds["x"][::-1]}, cache=tmp_path, on_progress=said)
    assert "nearest entry differs in calibration data (" in said.lines[-1] and "net" not in said.lines[-1]
    observe(small_net(seed=1), feeds, cache=tmp_path, on_progress=said)
    assert "nearest entry differs in net (" in said.lines[-1]
    monkeypatch.setattr("edgeflock.calibration.cache.version", lambda package: "1.2.3")
    observe(net, feeds, cache=tmp_path, on_progress=said)
    assert "differs in onnxruntime (" in said.lines[-1] and "now 1.2.3)" in said.lines[-1]
    assert len(list(tmp_path.glob("*.hist"))) == 4


def test_names_and_dtypes_belong_to_the_content(feeds, tmp_path):
    from edgeflock.calibration.cache import key_of

    data = {key_of(b"", f)["data"] for f in (feeds, {"y": feeds["x"]}, {"x": feeds["x"].astype(np.float32)})}
    assert len(data) == 3
    strided = np.repeat(feeds["x"], 2, axis=3)[..., ::2]
    assert key_of(b"", {"x": strided}) == key_of(b"", feeds)


@pytest.mark.parametrize("broken", [b"", b"{}", b"{}\n", b"\x80\xff\n\x00"])
def test_a_file_that_is_no_entry_is_replaced(net, feeds, tmp_path, said, broken):
    good = observe(net, feeds, cache=tmp_path)
    (path,) = tmp_path.glob("*.hist")
    path.write_bytes(broken)
    assert same(observe(net, feeds, cache=tmp_path, on_progress=said), good)
    assert "damaged or cut" in said.lines[0]
    assert same(observe(net, feeds, cache=tmp_path), good)


def test_no_changed_byte_goes_unnoticed(net, feeds, tmp_path, said):
    good = observe(net, feeds, cache=tmp_path)
    (path,) = tmp_path.glob("*.hist")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*rng.integers(0, len(whole), 20), 5, 80, 300]:
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        said.lines.clear()
        assert same(observe(net, feeds, cache=tmp_path, on_progress=said), good)
        assert "damaged or cut" in said.lines[0]


def test_a_folder_that_cannot_be_written_does_not_stop_the_work(net, feeds, tmp_path, said):
    (tmp_path / "file").touch()
    seen = observe(net, feeds, cache=tmp_path / "file", on_progress=said)
    assert seen["y"].samples == 10
    assert any("not kept" in line and "EDGEFLOCK_CACHE" in line for line in said.lines)


def test_the_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGEFLOCK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_folder() == Path("/x/edgeflock/calibration")
    monkeypatch.setenv("EDGEFLOCK_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "calibration"


# ---- resuming

SLOW = """
import sys, time
import numpy as np, onnx
from pathlib import Path
from edgeflock.calibration import observe as observing
observing.SAVE_EVERY_S = 0
net, feeds = onnx.load(sys.argv[1]), {"x": np.load(sys.argv[2])}
def slowly(done, total, text):
    print(done, total, flush=True)
    time.sleep(0.05)
observing.observe(net, feeds, cache=Path(sys.argv[3]), budget=1024, on_progress=slowly)
"""


def test_killed_in_the_middle_it_goes_on_to_the_identical_result(net, feeds, tmp_path, said):
    whole = observe(net, feeds, cache=tmp_path / "whole")
    onnx.save(net, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", feeds["x"])
    line = [sys.executable, "-c", SLOW, tmp_path / "net.onnx", tmp_path / "x.npy", tmp_path / "killed"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    while int(process.stdout.readline().split()[0]) < 25:  # of 50: in the second of three groups
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = observe(
        net, feeds, cache=tmp_path / "killed", budget=1 << 30, on_progress=said
    )  # and with another budget
    assert same(resumed, whole)
    assert any("going on at" in line for line in said.lines)
    assert said.steps[0][0] >= 20 and said.steps[-1] == (50, 50)
    (entry,) = (tmp_path / "killed").iterdir()  # no draft is left behind
    assert json.loads(entry.read_bytes().split(b"\n", 1)[0])["key"]["histogram"]


# ---- what cannot be observed


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (np.zeros((3, 2, 8, 8)), r"for the inputs \['x'\] of the net, got ndarray"),
        ({"image": np.zeros((3, 2, 8, 8))}, r"inputs \['x'\] of the net, got \['image'\]"),
        ({"x": np.zeros((3, 1, 8, 8))}, r"expected samples \('N', 2, 8, 8\), got \(3, 1, 8, 8\)"),
        ({"x": np.zeros((0, 2, 8, 8))}, "at least one"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(net, feeds, message, tmp_path):
    with pytest.raises(InputError, match=message):
        observe(net, feeds, cache=tmp_path)


def test_a_value_that_is_no_number_names_tensor_and_sample(net, tmp_path):
    bad = np.zeros((3, 2, 8, 8), np.float32)
    bad[1, 0, 2, 2] = np.nan
    with pytest.raises(InputError, match="tensor 'x' of sample 1: expected finite values"):
        observe(net, {"x": bad}, cache=tmp_path)
    with pytest.raises(InputError, match="tensor 'conv0' of sample 0"):
        observe(net, {"x": np.full((1, 2, 8, 8), 3e38, np.float32)}, cache=tmp_path)


def test_a_net_without_static_shape_is_refused(net, feeds, tmp_path):
    net.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(InputError, match="no static shape: export the net with fixed sizes"):
        observe(net, feeds, cache=tmp_path)
