"""Mutate ONNX files and read each in a bounded process, as `edgeflock export net` does (hypothesis).

    python tests/fuzz/onnx_file.py 500

A finding is any end but a net or a refusal in our words, more than 10 s of processor time, more than 2 GiB, or a file
outside of the net's own folder that was opened. hypothesis shrinks it and prints how it was made. The last line counts.
"""

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeflock.export.foreign import onnx_file
from edgeflock.runtime.errors import DataError, InputError

SIZES = st.sampled_from([-1, 0, 1, 2, 3, 7, 10**5, 2**31, 2**40, 2**62])
KINDS = ["edge", "lost", "dims", "numbers", "input", "operator", "attribute", "opset", "apart"]
OPERATORS = ["Conv", "Loop", "If", "Range", "Tile", "ConstantOfShape", "Resize", "None"]
ENDS = {0: "taken", DataError.exit_code: "damaged", InputError.exit_code: "not taken"}
OUTSIDE = "outside.data"


def nets():
    """Two nets: a CNN that ends in numbers, and one whose shapes are computed by its graph."""
    rng = np.random.default_rng(0)

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    weights = [constant(f"w{i}", rng.normal(size=s).astype(np.float32)) for i, s in enumerate([(4, 3, 3, 3), (4, 2)])]
    cnn = [
        helper.make_node("Conv", ["x", "w0"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flat", axis=1),
        helper.make_node("Gemm", ["f", "w1"], ["y"], "head"),
    ]
    computed = [
        helper.make_node("Shape", ["x"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], "batch"),
        helper.make_node("Concat", ["n", "rest"], ["to"], "to", axis=0),
        helper.make_node("Reshape", ["x", "to"], ["flat"], "reshape"),
        helper.make_node("Tile", ["flat", "twice"], ["t"], "tile"),
        helper.make_node("Expand", ["t", "wide"], ["y"], "expand"),
    ]
    numbers = [constant("zero", [0]), constant("rest", [48]), constant("twice", [1, 2]), constant("wide", [1, 96])]
    for nodes, held, shape in ((cnn, weights, ("batch", 3, 8, 8)), (computed, numbers, ("batch", 3, 4, 4))):
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            held,
        )
        yield helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETS = list(nets())


def mutate(draw, model):
    """Change one thing of a net, in place."""
    graph = model.graph
    node, tensor = draw(st.sampled_from(list(graph.node))), draw(st.sampled_from(list(graph.initializer)))
    names = [*sorted({name for n in graph.node for name in (*n.input, *n.output)}), "", "nowhere"]
    kind = draw(st.sampled_from(KINDS))
    if kind == "edge":  # other inputs, circles, two makers of one tensor
        side = draw(st.sampled_from([node.input, node.output]))
        side[draw(st.integers(0, len(side) - 1))] = draw(st.sampled_from(names))
    elif kind == "lost":
        (graph.initializer if draw(st.booleans()) else graph.node).pop()
    elif kind == "dims":
        tensor.dims[draw(st.integers(0, len(tensor.dims) - 1))] = draw(SIZES)
    elif kind == "numbers":  # sizes that are computed from constants become huge
        if tensor.data_type == TensorProto.INT64 and tensor.raw_data:  # its dims may be mutated already
            held = np.frombuffer(tensor.raw_data, np.int64).copy()
            held[draw(st.integers(0, held.size - 1))] = draw(SIZES)
            tensor.raw_data = held.tobytes()
        else:
            tensor.data_type = draw(st.integers(0, 24))
    elif kind == "input":
        dims = graph.input[0].type.tensor_type.shape.dim
        dims[draw(st.integers(0, len(dims) - 1))].dim_value = draw(SIZES)
    elif kind == "operator":
        node.op_type = draw(
            st.sampled_from(["Conv", "Loop", "If", "Range", "Tile", "ConstantOfShape", "Resize", "None"])
        )
    elif kind == "attribute":
        name = draw(st.sampled_from(["pads", "strides", "axis", "dilations", "group", "kernel_shape", "to"]))
        value = draw(st.one_of(SIZES, st.lists(SIZES, max_size=5)))
        node.attribute.append(helper.make_attribute(name, value, attr_type=7 if isinstance(value, list) else 2))
    elif kind == "opset":
        model.opset_import[0].version = draw(st.integers(-1, 40))
    else:
        held = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        where = [f"../{OUTSIDE}", "/dev/zero", "/proc/self/environ", "net.onnx", ".", "", "inner/../../outside.data"]
        for key, value in (
            ("location", draw(st.sampled_from(where))),
            ("offset", str(draw(SIZES))),
            ("length", str(draw(st.one_of(st.just(len(held)), SIZES)))),
        ):
            tensor.external_data.add(key=key, value=value)


@st.composite
def files(draw):
    """Bytes of a mutated file."""
    model = onnx.ModelProto()
    model.CopyFrom(draw(st.sampled_from(NETS)))
    for _ in range(draw(st.integers(0, 2))):
        if model.graph.node and model.graph.initializer:
            mutate(draw, model)
    content = bytearray(model.SerializeToString())
    if draw(st.integers(0, 3)) == 0:
        for _ in range(draw(st.integers(1, 8))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 5)) == 0:
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


def read(path):
    """Read a file in a process of its own; how it ended, its processor time (s), its memory (MiB), its last words."""
    out, words = path.with_name("out.onnx"), path.parent.parent / "words"
    child = os.fork()
    if not child:
        with words.open("w") as told:
            os.dup2(told.fileno(), 2)
            sys.addaudithook(lambda event, args: spy(path.parent.resolve(), event, args))
            os._exit(onnx_file.main(str(path), str(out), "{}", str(path.stat().st_size)))
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, words.read_text()


def spy(folder, event, args):
    """End the process where Python opens what lies beside the net's folder, or a device."""
    if event == "open" and isinstance(args[0], str):
        opened = Path(args[0]).resolve()
        beside = opened.is_relative_to(folder.parent) and not opened.is_relative_to(folder)
        if beside or str(opened) in ("/dev/zero", "/proc/self/environ"):
            os._exit(99)


def main(count):
    """Read so many mutations; prints how they ended."""
    ends, worst_s, worst_mib, began = Counter(), 0.0, 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "net"
        folder.mkdir()
        (Path(parent) / OUTSIDE).write_bytes(b"\1" * 4096)

        @settings(max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=HealthCheck)
        @given(files())
        def every_file_is_taken_or_refused(content):
            nonlocal worst_s, worst_mib
            path = folder / "net.onnx"
            path.write_bytes(content)
            code, cpu_s, mib, words = read(path)
            # A crash of onnx's C++ or an end by the bounds is told by `read_onnx` in our words.
            ended = ENDS.get(code) or (signal.Signals(-code).name if code < 0 else None)
            assert ended and "Traceback" not in words, f"code {code}: {words}"
            assert cpu_s < 11 and mib < 2048, f"{cpu_s:.1f} s, {mib:.0f} MiB"
            ends[ended] += 1
            worst_s, worst_mib = max(worst_s, cpu_s), max(worst_mib, mib)
            with contextlib.suppress(FileNotFoundError):
                path.with_name("out.onnx").unlink()

        every_file_is_taken_or_refused()
    said = ", ".join(f"{n} {end}" for end, n in ends.most_common())
    took = f"{time.monotonic() - began:.0f} s"
    print(f"{sum(ends.values())} files in {took}: {said}; at most {worst_s:.1f} s, {worst_mib:.0f} MiB")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
