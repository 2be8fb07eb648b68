"""An ONNX file from anywhere, read into the form that the export takes, or refused.

A file from elsewhere may be cut, lie about its sizes, or crash the C++ of onnx and ONNX Runtime. So it is read in a
process of its own whose memory and processor time are bounded (`read_onnx`); what that process does is `adopt_file`.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from edgeflock.calibration.foreign import adopted
from edgeflock.export.graph import OPSET, finish
from edgeflock.export.targets.base import opset_of
from edgeflock.runtime.errors import DataError, EdgeflockError, InputError, in_our_words

OLDEST = 9
"""Operator set from which on files are read."""

LARGEST = 512 << 20
"""Bytes of the largest tensor of a graph that is taken."""

_DATA = (".data", ".bin", ".weights")
"""Endings of external data, whose size widens the bounds."""
_BASE_MEMORY, _BASE_CPU_S = 1800 << 20, 9
_SAME = 1e-4
_FLOATS = {TensorProto.FLOAT16: np.float16, TensorProto.FLOAT: np.float32}
_TYPES = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8,
    TensorProto.BOOL,
}  # fmt: skip
Shapes = Mapping[str, Sequence[int]]


def read_onnx(path: Path, shapes: Shapes | None = None) -> onnx.ModelProto:
    """Read a file from anywhere within bounds of memory and time.

    Parameters
    ----------
    path : Path
    shapes : mapping, optional
        Of the inputs that leave more open than their batch; the key "" holds for the only input.

    Returns
    -------
    onnx.ModelProto
        As `adopt_file` makes it.

    Raises
    ------
    DataError, InputError
        It is damaged, or no net that the export takes; says what to do.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: expected an ONNX file, {'this is a folder' if path.is_dir() else 'nothing is there'}."
        )
    beside = (file for file in path.parent.iterdir() if file.suffix in _DATA or file.name.startswith(f"{path.stem}."))
    size = sum(file.stat().st_size for file in {path, *beside} if file.is_file())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "net.onnx"
        command = [sys.executable, "-m", __name__, str(path), str(out), json.dumps(dict(shapes or {})), str(size)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=env)
        if done.returncode == 0:
            return onnx.load(out)
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == DataError.exit_code:
        raise DataError(said)
    if done.returncode == InputError.exit_code:
        raise InputError(said)
    why = f"its reader ended with code {done.returncode}: {said[:200]}"
    if done.returncode < 0:
        ended: dict[int, str] = {signal.SIGXCPU: "took too long", signal.SIGKILL: "took too much memory or time"}
        why = f"reading it {ended.get(-done.returncode, f'crashed onnx (signal {-done.returncode})')}"
    raise DataError(
        f'{path}: expected a whole ONNX net, but {why}. Check it with `python -c "import onnx; '
        f"onnx.checker.check_model('{path}', full_check=True)\"`, or export it again with fixed sizes."
    )


def adopt_file(path: Path, shapes: Shapes) -> onnx.ModelProto:
    """Graph of a file in the form of `edgeflock.export.onnx.export_onnx`.

    External data come from its own folder only. The batch becomes 1, other open sizes those of `shapes`. Functions are
    inlined, constants folded, float16 is widened to float32. The operator set becomes 17 where the answers stay the
    same, else it stays what it was.

    Parameters
    ----------
    path : Path
    shapes : mapping

    Raises
    ------
    DataError
        The file is damaged.
    InputError
        It is whole, but no net that the export takes.
    """
    model = _parse(path)
    _check_tensors(model, path)
    _check_operators(model, path)
    for value in model.graph.output:  # which many exporters leave open, and the checker wants
        value.type.tensor_type.shape.SetInParent()
    with _said_of(path, "the graph makes no sense"):
        onnx.checker.check_model(model)
    version = opset_of(model)
    if version < OLDEST:
        raise InputError(
            f"{path}: expected operator set {OLDEST} or newer, got {version}: export the net again "
            f"with opset_version={OPSET}."
        )
    with _said_of(path, "its functions cannot be inlined"):
        model = inline_local_functions(model) if model.functions else model
    _fix_shapes(model, shapes, path)
    with _said_of(path, "its shapes do not fit each other"):
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    _check_sizes(inferred, path)
    with _said_of(path, "it cannot be simplified"):
        import onnxslim

        model = onnxslim.slim(inferred)
    if any(value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in _values(model)) or any(
        tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer
    ):
        model = adopted(model)
        _widen(model)
    try:
        model = _of_opset(model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    _check_sizes(model, path)
    _run(model, path)
    _check_ends(model, path)
    with _said_of(path, "it is no whole net"):
        return finish(model)


def _parse(path: Path) -> onnx.ModelProto:
    start = path.read_bytes()[:64]
    if start.startswith(b"version https://git-lfs"):
        raise DataError(
            f"{path}: expected an ONNX net, got a pointer of Git LFS: run `git lfs pull` where it came from."
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise DataError(
            f"{path}: expected an ONNX file, got something else or a part of one: fetch it again."
        ) from None
    if not model.graph.node or not model.graph.output:
        raise DataError(f"{path}: expected an ONNX file with a net, got none or an empty graph: fetch it again.")
    if not model.opset_import:
        raise DataError(f"{path}: expected an operator set, the file names none: fetch it again.")
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Every constant of a graph, those of its branches and Constant nodes as well."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(inner)


def _check_tensors(model: onnx.ModelProto, path: Path) -> None:
    """Read external data from the file's own folder, and refuse constants that are not what they say."""
    folder = path.resolve().parent
    if model.graph.sparse_initializer:
        raise InputError(f"{path}: sparse weights are not taken: export the net with dense ones.")
    functions = (onnx.GraphProto(node=function.node) for function in model.functions)
    for tensor in (t for graph in (model.graph, *functions) for t in _tensors(graph)):
        if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) * 8 > 2 * LARGEST:
            raise DataError(
                f"{path}: the constant {tensor.name!r} says it is {list(tensor.dims)}: fetch the file again."
            )
        if tensor.data_location == TensorProto.EXTERNAL:
            _read_external(tensor, folder, path)
        try:
            numpy_helper.to_array(tensor)
        except Exception as error:  # onnx raises what its parser comes upon
            raise DataError(
                f"{path}: the constant {tensor.name!r} does not hold the {list(tensor.dims)} values that it says "
                f"({' '.join(str(error).split())[:100]}): fetch the file again."
            ) from None


def _read_external(tensor: TensorProto, folder: Path, path: Path) -> None:
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder) or file == folder:
        raise DataError(
            f"{path}: the constant {tensor.name!r} lies in {location!r}, outside of the folder of the file, which is "
            "not read: put the data beside the file and save it again with onnx.save_model(..., location=NAME)."
        )
    if not file.is_file():
        raise DataError(f"{path}: its weights lie in {location}, which is not there: copy it beside the file.")
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or -1)
    except ValueError:
        raise DataError(f"{path}: offset or length of {tensor.name!r} in {location} is no number.") from None
    held = file.stat().st_size
    length = held - offset if length < 0 else length
    if offset < 0 or length < 0 or offset + length > held or length > 2 * LARGEST:
        raise DataError(
            f"{path}: {tensor.name!r} should be bytes {offset}..{offset + length} of {location}, which has {held}: "
            "copy the whole file again."
        )
    with file.open("rb") as data:
        data.seek(offset)
        tensor.raw_data = data.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [node for node in model.graph.node if (node.domain, node.op_type) not in own]
    foreign = sorted({f"{node.op_type} of {node.domain}" for node in nodes if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise InputError(
            f"{path}: expected standard ONNX operators, got {', '.join(foreign[:5])}: no board but ONNX Runtime's CPU "
            "has them. Export the net again from where it was trained, without an optimiser or quantiser in between."
        )
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise InputError(
            f"{path}: expected a net in float, got one that is quantised already: give the float net, edgeflock makes "
            "the form that each board takes."
        )


def _fix_shapes(model: onnx.ModelProto, shapes: Shapes, path: Path) -> None:
    """Give every input a fixed shape, in place, and forget what followed from the open one."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if "" in shapes:  # the one input's name is not known before the file is read
        if len(inputs) != 1:
            raise InputError(
                f"{path} has the inputs {', '.join(v.name for v in inputs)}: say what each is in a file, --inputs FILE."
            )
        shapes = {inputs[0].name: shapes[""]}
    if unknown := shapes.keys() - {value.name for value in inputs}:
        raise InputError(f"{path} has no input {', '.join(sorted(unknown))}, only {', '.join(v.name for v in inputs)}.")
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise InputError(f"{path}: input {value.name!r} is no tensor but a sequence, map or optional: not taken.")
        dims = value.type.tensor_type.shape.dim
        given: Sequence[int | None] | None = shapes.get(value.name)
        if not value.type.tensor_type.HasField("shape") and given is not None:
            dims.extend(onnx.TensorShapeProto.Dimension() for _ in given)
        said = [dim.dim_value if dim.dim_value > 0 else None for dim in dims]
        if given is None:
            given = [1 if i == 0 and size is None else size for i, size in enumerate(said)]
        if len(given) != len(said) or any(size is None or size < 1 for size in given):
            shown = "x".join("?" if size is None else str(size) for size in said)
            raise InputError(
                f"{path}: input {value.name!r} is {shown or 'of no known shape'}, "
                + (f"which {'x'.join(map(str, given))} does not fit" if None not in given else "sizes are open")
                + ": say them with --size WxH for pictures, --shape 1x3x224x224 or, of several inputs, --inputs FILE."
            )
        for dim, size in zip(dims, given, strict=True):
            dim.Clear()
            dim.dim_value = size or 1
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _check_sizes(model: onnx.ModelProto, path: Path) -> None:
    for value in _values(model):
        size = 4 * math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value"))
        if not 0 <= size <= LARGEST:
            raise InputError(
                f"{path}: the tensor {value.name!r} would take {size / 2**20:.0f} MiB, expected at most "
                f"{LARGEST >> 20}: give a smaller --size or --shape; if that is right already, the file is damaged."
            )


def _values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.value_info, *model.graph.output]


def _widen(model: onnx.ModelProto) -> None:
    """Make float32 of all that is float16, in place."""
    for tensor in _tensors(model.graph):
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    for value in _values(model):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.value_info[:]


def _of_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The net in the operator set that old boards load, where onnx converts it to the same answers."""
    made = adopted(model)
    if opset_of(made) == OPSET:
        return made
    try:
        other = adopted(onnx.version_converter.convert_version(made, OPSET))
        finish(other)
        feeds = _noise(made)
        expected, got = answers_of(made, feeds), answers_of(other, feeds)
        if all(_near(got[name], value) for name, value in expected.items()):
            return other
    except Exception:  # the converter has no common error; the net then stays as it is, and the board table says so
        return made
    return made


def answers_of(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a graph of any ends answers to one feed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [value.name for value in model.graph.output]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _run(model: onnx.ModelProto, path: Path) -> None:
    """Run a net once; outputs whose shape onnx cannot tell get the one that they have, where it is always the same."""
    feeds = _noise(model)
    with _said_of(path, "ONNX Runtime does not run it"):
        first = answers_of(model, feeds)
        open_ones = [value for value in model.graph.output if not _fixed(value)]
        second = answers_of(model, {name: np.zeros_like(feed) for name, feed in feeds.items()}) if open_ones else first
    for value in open_ones:
        if (shape := first[value.name].shape) == second[value.name].shape:
            value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))


def _fixed(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.dim_value > 0 for dim in tensor.shape.dim)


def _near(got: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.max(np.abs(got.astype(np.float64) - expected), initial=0) <= _SAME * max(1, np.abs(expected).max()))


def _noise(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        found[value.name] = (rng.random(shape) if np.issubdtype(dtype, np.floating) else np.zeros(shape)).astype(dtype)
    return found


def _check_ends(model: onnx.ModelProto, path: Path) -> None:
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type not in _TYPES:
            kind = TensorProto.DataType.Name(tensor.elem_type)
            raise InputError(f"{path}: {value.name!r} is {kind}, which boards do not take: export the net in float32.")
        if not _fixed(value):
            raise InputError(
                f"{path}: the shape of {value.name!r} depends on what the net sees (as after NonMaxSuppression or "
                "NonZero), and boards need fixed ones: export the net without that step and do it on its outputs."
            )


class _said_of:
    """Turns what a library raises about a file into a DataError."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, EdgeflockError):
            said = re.sub(r"\s+", " ", str(error)).strip()[:240]
            raise DataError(
                f"{self.path}: expected a whole ONNX net, but {self.what} ({type(error).__name__}: {said}): fetch the "
                f"file again, or export it again with opset_version={OPSET}."
            ) from None


def main(source: str, out: str, shapes: str, size: str) -> int:
    """Read a file within bounds; the last line of standard error says why it is refused."""
    megabytes = int(size) / 2**20
    memory, cpu = _BASE_MEMORY + 8 * int(size), int(_BASE_CPU_S + megabytes)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        onnx.save(adopt_file(Path(source), json.loads(shapes)), out)
    except Exception as error:
        told = in_our_words(error)
        code = told.exit_code if isinstance(told, DataError | InputError) else DataError.exit_code
        print(str(told or f"{source}: {type(error).__name__}: {error}").replace("\n", " "), file=sys.stderr)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
