"""LDR against its teacher: what is counted, what is timed, and what the table says of it."""

from __future__ import annotations

import json

import pytest

from edgeflock.export.bench.registration import RegistrationFigures, ldr_bars, markdown, multiplications
from edgeflock.export.nets import NETS
from edgeflock.export.onnx import export_onnx
from edgeflock.export.quantise.planes import to_2d
from edgeflock.runtime.errors import InputError

FACTS = {"ldr": 7.52, "ldr-cheap-head": 6.59}  # GMAC at 128^3, docs/nets.md


@pytest.mark.parametrize("name", FACTS)
def test_multiplications_are_those_of_the_facts(name):
    model = export_onnx(NETS[name](), dict.fromkeys(("fixed", "moving"), (1, 1, 32, 32, 32)), ["flow"])
    assert 64 * multiplications(model) / 1e9 == pytest.approx(FACTS[name], abs=0.005)


def test_the_2d_form_multiplies_more_at_the_border_only():
    model = export_onnx(NETS["ldr"](), dict.fromkeys(("fixed", "moving"), (1, 1, 64, 64, 64)), ["flow"])
    ratio = multiplications(to_2d(model)) / multiplications(model)
    assert 1 < ratio < (9 / 8) ** 3


def row(net, precision, min_ms, ratio):
    return RegistrationFigures(net, "onnxruntime-cpu", precision, 1, 10, 1.0, min_ms, min_ms + 1, min_ms, ratio)


def test_the_table_ends_with_the_ratio_of_the_fastest_forms():
    rows = [
        row("ldr", "fp32", 40.0, 1),
        row("vtn + affine", "fp32", 50.0, 1.25),
        row("ldr", "int8", 10.0, 1),
        row("vtn + affine", "int8", 15.0, 1.5),
    ]
    lines = markdown(rows).splitlines()
    assert "| vtn + affine | 10 | 1.00 | 50.0 | 51.0 | 50.0 | 1.25 |" in lines[3]
    assert lines[-1].endswith("vtn + affine 15.0 ms (onnxruntime-cpu, int8), 1.50 times that.")


def test_it_times_nets_in_every_form_and_writes_the_table(tmp_path, capsys):
    ldr_bars(tmp_path / "bars" / "ldr.json", size=64, threads=[1], rounds=3, net=["ldr-cheap-head"])
    record = json.loads((tmp_path / "bars" / "ldr.json").read_text())
    measured = {(r["net"], r["engine"], r["precision"]): r for r in record["rows"]}
    assert {key for key in measured if key[1] == "onnxruntime-cpu"} == {
        (net, "onnxruntime-cpu", precision) for net in FACTS for precision in ("fp32", "int8")
    }
    for (net, engine, precision), r in measured.items():
        assert 0 < r["min_ms"] <= r["median_ms"]
        assert r["ratio"] == pytest.approx(r["min_ms"] / measured["ldr", engine, precision]["min_ms"])
        assert r["parameters"] == {"ldr": 1_548_528, "ldr-cheap-head": 1_544_979}[net]
    table = (tmp_path / "bars" / "ldr.md").read_text()
    assert table.strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize("wrong", [{"size": 96}, {"net": ["unet"]}])
def test_a_size_or_net_that_it_does_not_know_is_refused(wrong):
    with pytest.raises(InputError, match="the size is a multiple of 64; got"):
        ldr_bars(**wrong)
