"""Every net in every form, with seeded weights: what the board checks parse, lower and run.

    python tests/boards/nets.py build/boards/nets

Weights do not matter to a parser, and bit equality must hold for any. Made once per state of export/ and calibration/.
Left out: longer cascades, which repeat the stems of the shorter ones (VTN's with 400 MB of weights); a velocity that is
integrated, whose five warps TensorRT-RTX builds for minutes; the choreography nets, of which CPUs alone were tried.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch

from edgeflock.calibration.ranges import activation_ranges
from edgeflock.export.nets import CHOREOGRAPHY_NETS, NETS, REGISTRATION_NETS, STEERING_NETS, VTNAffine
from edgeflock.export.onnx import export_onnx
from edgeflock.export.quantise.forms import FORMS, quantize
from edgeflock.export.quantise.fp16 import to_fp16
from edgeflock.export.quantise.planes import to_2d
from edgeflock.runtime.errors import EdgeflockError

VOXELS = {"vtn": 64, "vtn-affine": 64}
"""Edge of a volume, 32 for the other nets: a parser does not care, and 128 would take minutes. VTN halves six times."""

LEFT_OUT = ("ldr-3", "ldr-diffeomorphic", "vtn-affine-2", "vtn-affine-3", *CHOREOGRAPHY_NETS)


def shapes(net: str) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Inputs and outputs of a net."""
    if net in STEERING_NETS:
        return {"image": (1, 1, 200, 200)}, ["steering"]
    if net in REGISTRATION_NETS:
        volume = (1, 1, *[VOXELS.get(net, 32)] * 3)
        return {"fixed": volume, "moving": volume}, ["flow"]
    if net.startswith("glamor"):
        return {"face": (1, 3, 96, 96), "context": (1, 3, 112, 112)}, ["emotion", "attention"]
    size = NETS[net].size
    return {"face": (1, 3, size, size)}, ["emotion"]


def feeds(net: str, count: int) -> dict[str, np.ndarray]:
    """Smooth noise in the range that the net takes, (count, ...) per input."""
    rng = np.random.default_rng(7)
    low, high = {**dict.fromkeys(STEERING_NETS, (0, 255))}.get(net, (-1, 1) if net.startswith("fer") else (0, 1))
    made = {}
    for name, shape in shapes(net)[0].items():
        noise = rng.random((count, *shape[1:]), np.float32)
        for axis in range(2, noise.ndim):
            noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)) / 3
        made[name] = (low + (high - low) * noise).astype(np.float32)
    return made


def make(net: str, folder: Path) -> dict[str, str]:
    """Write `<net>_<form>.onnx`, and the feeds of 2-D nets; returns why a form could not be made."""
    torch.manual_seed(3)
    inputs, outputs = shapes(net)
    module = VTNAffine(size=VOXELS[net]) if net == "vtn-affine" else NETS[net]()
    fp32 = export_onnx(module.eval(), inputs, outputs)
    volumetric = net in REGISTRATION_NETS
    given = feeds(net, 1 if volumetric else 4)
    source = to_2d(fp32) if volumetric else fp32  # as the recipe of registration has it quantised
    ranges = activation_ranges(source, given, "minmax")
    models, failed = {"fp32": fp32}, {}
    for form in ("fp16", *(("int8-qnn", "int8-trt") if volumetric else FORMS)):
        try:
            models[form] = to_fp16(fp32) if form == "fp16" else quantize(source, ranges, form)
        except EdgeflockError as error:
            failed[form] = str(error)
    for form, model in models.items():
        onnx.save(model, folder / f"{net}_{form}.onnx")
    if not volumetric:
        np.savez(folder / f"{net}.npz", **{name: array[:1] for name, array in given.items()})
    return failed


def digest() -> str:
    """Of everything that the files depend on."""
    root = Path(__file__).resolve().parents[2]
    sources = sorted([Path(__file__), *(root / "calibration").glob("*.py"), *(root / "export").glob("*.py")])
    sources += sorted(path for part in ("nets", "quantise") for path in (root / "export" / part).glob("*.py"))
    tools = "".join(version(tool) for tool in ("torch", "onnx", "onnxruntime", "onnxslim"))
    return hashlib.sha256(b"".join([tools.encode(), *(source.read_bytes() for source in sources)])).hexdigest()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    stamp = folder / "made.json"
    if stamp.exists() and json.loads(stamp.read_text())["digest"] == digest():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    failed = {}
    for net in NETS:
        if net not in LEFT_OUT:
            start = time.monotonic()
            failed[net] = make(net, folder)
            print(f"{net}: {time.monotonic() - start:.1f} s {failed[net] or ''}", flush=True)
    stamp.write_text(json.dumps({"digest": digest(), "failed": failed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
