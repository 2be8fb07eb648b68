"""Nets lowered by Qualcomm's own converter, onnxruntime-qnn's ir backend under emulation, with the CPU forbidden.

It shows which operators QNN has and in how many bits each tensor is. It does not know the limits of an HTP, and of the
RB5's v66 it says nothing at all (docs/board-checks.md).
"""

import json
from collections import Counter

import pytest

from edgeflock.export.nets import NETS
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle

NATIVE, STATIC = 3, 4  # Qnn_TensorType_t; 0 and 1 are the inputs and outputs of the graph
FLOATS = {0x216, 0x232}
BITS8, BIAS = {0x308, 0x408}, 0x332


@pytest.fixture(scope="module")
def lower(emulate, tmp_path_factory):
    """``lower({key: path})`` -> told, {key: error or list of (tensor type, data type, name)}."""

    def run(models):
        folder = tmp_path_factory.mktemp("qnn")
        jobs = [{"model": str(path), "folder": str(folder / str(i))} for i, path in enumerate(models.values())]
        (folder / "jobs.json").write_text(json.dumps(jobs))
        told = emulate("rb5", "bookworm", "site-qnn", "lower.py", folder / "jobs.json")
        graphs = {}
        for i, (key, error) in enumerate(zip(models, told["errors"], strict=True)):
            dumps = [f for f in (folder / str(i)).glob("*.json") if not f.stem.endswith("tensor_log")]
            tensors = [json.loads(dump.read_text())["graph"]["tensors"] for dump in dumps]
            graphs[key] = error or [(t["type"], t["data_type"], name) for part in tensors for name, t in part.items()]
        return f"onnxruntime-qnn {told['qnn']}, ONNX Runtime {told['onnxruntime']}, ir backend", graphs

    return run


@pytest.fixture(scope="module")
def lowered(lower, nets):
    """Every net's DSP form, all in one process: importing the provider costs most of the time."""
    return lower({net: path for net in NETS if (path := nets.path(net, "int8-qnn")).is_file()})


@pytest.mark.parametrize("net", NETS)
def test_every_tensor_of_the_dsp_form_has_8_bits(net, lowered, nets, checked):
    where, graphs = lowered
    if net not in graphs:
        pytest.skip(nets.failed.get(net, {}).get("int8-qnn", "left out, for the reason that nets.py has"))
    tensors = graphs[net]
    assert not isinstance(tensors, str), tensors
    floats = [name for kind, bits, name in tensors if kind in (NATIVE, STATIC) and bits in FLOATS]
    assert not floats, f"{net} keeps {floats} in float"
    inside = Counter(bits for kind, bits, _ in tensors if kind == NATIVE)
    assert set(inside) <= BITS8, inside
    assert BIAS in {bits for kind, bits, _ in tensors if kind == STATIC}
    said = "no node on the CPU; all activations and weights 8 bit, biases int32"
    checked(where, net, "int8-qnn", "lowered by the vendor's converter", said)


def test_the_form_for_cpus_is_seen_to_hold_float(lower, checked):
    bundle = Bundle.open(default_bundle())

    where, graphs = lower({"int8": bundle.artefact("int8")})

    floats = sum(kind == NATIVE and bits in FLOATS for kind, bits, _ in graphs["int8"])
    assert floats
    said = f"no DSP form, as expected: {floats} activations in float"
    checked(where, bundle.manifest.net, "int8", "lowered by the vendor's converter", said)
