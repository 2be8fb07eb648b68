"""The comparison with other runtimes: in turns, checked against torch, what is missing with its install line."""

import numpy as np
import pytest

from edgeflock.export.bench import other_runtimes as comparing
from edgeflock.export.bench.other_runtimes import PeerRow, PeersRecord, _converted, compare, markdown, take_turns
from edgeflock.export.bench.runtimes import Peer
from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.machine import this_board
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.errors import InputError


@pytest.fixture(scope="module")
def record():
    """A short comparison of what is installed here, without the converters, which take minutes."""
    kept, comparing.PEERS = comparing.PEERS, {}
    try:
        return compare(Bundle.open(default_bundle()), 0.5, engine="onnxruntime-cpu", precision="fp32")
    finally:
        comparing.PEERS = kept


def row(name, ms, answers=True):
    latency = Latency.of(np.full(700, int(ms * 1e6)))
    return PeerRow(name=name, precision="int8", version="1", latency=latency, max_error=0, rmse=0, answers=answers)


def made(*rows, chosen, task=1.0):
    return PeersRecord(
        edgeflock="0",
        commit=None,
        command="",
        board=this_board(),
        net="n",
        bundle_sha256="0",
        threads=1,
        unit="rad",
        chosen=chosen,
        rows=list(rows),
        task=row("task", task).latency,
        missing={"ncnn fp32": "ncnn not installed: pip install ncnn pnnx"},
    )


def test_every_row_is_checked_against_torch(record):
    rows = {row.name: row for row in record.rows}
    assert {"onnxruntime fp32", "onnxruntime int8", "edgeflock onnxruntime-cpu int8"} <= set(rows)
    assert rows["edgeflock onnxruntime-cpu fp32"].max_error < 1e-5
    assert 1e-4 < rows["edgeflock onnxruntime-cpu int8"].max_error < 0.1
    assert all(row.answers for row in record.rows)


def test_the_engine_of_the_task_and_its_overhead_are_named(record):
    assert record.chosen == "edgeflock onnxruntime-cpu fp32" and record.ours.precision == "fp32"
    assert -0.5 < record.task_overhead < 10  # of half a second on a machine that may be busy
    assert [row.latency.min_ms for row in record.rows] == sorted(row.latency.min_ms for row in record.rows)


def test_the_record_survives_its_json(record):
    assert PeersRecord.model_validate_json(record.model_dump_json()) == record


def test_a_peer_with_wrong_answers_is_marked_and_not_compared_with():
    found = made(row("litert int8", 0.1, answers=False), row("edgeflock x", 0.5), row("ort", 1.0), chosen="edgeflock x")
    assert found.best_peer.name == "ort"
    page = markdown(found)
    assert "litert int8 **wrong answers**" in page
    assert "2.00 times as fast as the fastest peer, ort" in page
    assert "100 % more" in page and "pip install ncnn pnnx" in page


def test_runtimes_take_turns_and_each_block_begins_uncounted():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = take_turns(calls, 0.0)
    assert {name: len(t) for name, t in times.items()} == {name: comparing.BLOCK - 1 for name in "abc"}
    assert len([n for n in range(1, len(order)) if order[n] != order[n - 1]]) == 2


def test_a_converter_that_fails_is_a_reason(tmp_path):
    assert "KeyError" in _converted("no such runtime", default_bundle(), tmp_path / "x", ())


def test_what_is_not_installed_comes_with_its_install_line(monkeypatch):
    peer = comparing.PEERS["ncnn fp32"]
    monkeypatch.setattr(comparing, "PEERS", {"ncnn fp32": Peer(**(vars(peer) | {"needs": ("no_such_module",)}))})
    found = compare(Bundle.open(default_bundle()), 0.1)
    assert found.missing == {"ncnn fp32": "no_such_module not installed: pip install ncnn pnnx"}


def test_a_bundle_without_weights_is_refused(tmp_path):
    opened = Bundle.open(default_bundle())
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        compare(Bundle(tmp_path, opened.manifest, opened.digest), 0.1)
