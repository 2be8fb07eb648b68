"""What holds for every engine that can be used on this machine, in every precision that it takes.

An engine that cannot be used here is skipped, once, with the reason that `engine_problems` gives.
"""

import re
import tracemalloc

import numpy as np
import pytest

from edgeflock.runtime.engines import PRECISIONS, engine_problems, open_engine
from edgeflock.runtime.errors import EngineError, InputError

PROBLEMS = engine_problems()
TOLERANCES = {"fp32": 1e-5, "fp16": 5e-3, "int8": 1e-2, "int8-trt": 1e-2, "int8-qnn": 1e-2}
"""rad, of the small steering net. INT8 rounds in another order on another engine (docs/decisions/0002)."""
USABLE = [name for name, problem in PROBLEMS.items() if problem is None]
WAYS = [
    pytest.param((name, precision, threads), id=f"{name}-{precision}-{threads}")
    for name in USABLE
    for precision in PRECISIONS[name]
    for threads in ((1, 2) if name in ("onnxruntime-cpu", "openvino") else (1,))
]
FLOAT = [name for name in USABLE if "fp32" in PRECISIONS[name]]


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name not in USABLE])
def test_an_engine_that_cannot_be_used_is_refused_with_the_reason(name, nets):
    with pytest.raises(EngineError, match=f"{name} cannot be used here.*{re.escape(PROBLEMS[name])}"):
        open_engine(name, nets.fp32, PRECISIONS[name][0])
    pytest.skip(PROBLEMS[name])


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def precision(way):
    return way[1]


@pytest.fixture
def engine(way, form):
    name, precision, threads = way
    return open_engine(name, form(precision)[0], precision, threads)


@pytest.fixture
def image():
    return np.zeros((1, 1, 200, 200), np.float32)


def test_it_says_what_it_is(engine, way):
    assert (engine.name, engine.precision) == way[:2]


def test_it_answers_as_the_reference_does(engine, nets, form, image, precision):
    answer = engine.bind({"image": image})["steering"]
    assert answer.shape == (1, 1) and answer.dtype == np.float32
    for given, expected in zip(nets.images, form(precision)[1], strict=True):
        image[0] = given
        engine.run()
        assert answer[0] == pytest.approx(expected, abs=TOLERANCES[precision])


def test_the_reference_answers_differ_so_that_the_test_above_can_fail(form, precision):
    assert np.ptp(form(precision)[1]) > 10 * TOLERANCES[precision]


def test_outputs_stay_the_same_memory(engine, image):
    outputs = engine.bind({"image": image})
    answer, before = outputs["steering"], outputs["steering"].ctypes.data
    for _ in range(3):
        engine.run()
    assert outputs["steering"] is answer and answer.ctypes.data == before


def test_the_last_binding_counts(engine, nets):
    first, second = nets.images[:1].copy(), nets.images[3:].copy()
    old = engine.bind({"image": first})["steering"]
    engine.run()
    before = old.copy()
    new = engine.bind({"image": second})["steering"]
    engine.run()
    assert np.array_equal(old, before) and new[0, 0] not in (0, old[0, 0])


def test_bound_memory_outlives_the_callers_names(engine, nets):
    answer = engine.bind({"image": nets.images[:1].copy()})["steering"]
    _ = [np.full((1, 1, 200, 200), 255, np.float32) for _ in range(8)]  # would reuse a freed block
    engine.run()
    again = engine.bind({"image": nets.images[:1].copy()})["steering"]
    engine.run()
    assert np.array_equal(answer, again)


def test_outputs_outlive_the_engine(way, form, nets):
    name, precision, threads = way
    engine = open_engine(name, form(precision)[0], precision, threads)
    answer = engine.bind({"image": nets.images[:1].copy()})["steering"]
    engine.run()
    before = answer.copy()
    del engine
    _ = [np.full(answer.shape, 255, np.float32) for _ in range(64)]
    assert np.array_equal(answer, before)


def test_nothing_is_allocated_per_run(engine, image):
    engine.bind({"image": image})
    engine.run()
    tracemalloc.start()
    try:
        for _ in range(5):
            engine.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4096  # a few Python objects, no array


# OpenVINO's ReLU turns NaN into 0; on this engine only finite, wrong answers come from broken weights, and the
# reference inputs catch those.
@pytest.mark.parametrize("name", [name for name in FLOAT if name != "openvino"])
def test_nan_goes_through(name, nets, image):
    # Only a float net can say NaN; the guard node relies on it.
    engine = open_engine(name, nets.fp32, "fp32")
    answer = engine.bind({"image": image})["steering"]
    image[:] = np.nan
    engine.run()
    assert np.isnan(answer[0, 0])


@pytest.mark.parametrize("name", FLOAT)
def test_a_net_of_two_volumes_answers_like_numpy(name, volumes):
    engine = open_engine(name, volumes.path, "fp32")
    outputs = engine.bind(volumes.feeds)
    engine.run()
    assert set(outputs) == {"flow", "score"}
    for output, expected in volumes.answers.items():
        assert outputs[output] == pytest.approx(expected, abs=1e-5)


def test_every_node_that_runs_has_a_place(engine):
    placed = engine.placement()
    assert len(placed) >= 5 and all(placed.values())
    # Engines rename and fuse, ONNX Runtime 1.23 after the ReLU (r1), but these are still told apart.
    for names in (("conv1", "c1", "r1"), ("conv2", "c1", "r2"), ("pool", "p1")):
        assert any(part in name for part in names for name in placed)


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, r"inputs are \['image'\], got \[\]"),
        ({"picture": np.zeros((1, 1, 200, 200), np.float32)}, "picture"),
        ({"image": np.zeros((1, 200, 200), np.float32)}, r"shape \(1, 1, 200, 200\).*\(1, 200, 200\)"),
        ({"image": np.zeros((1, 1, 200, 200))}, "float32.*float64"),
        ({"image": np.zeros((1, 1, 200, 200), np.uint8)}, "float32.*uint8"),
        ({"image": np.zeros((1, 1, 400, 200), np.float32)[:, :, ::2]}, "C-contiguous"),
        ({"image": [[0.0]]}, "float32.*list"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(engine, feeds, says):
    with pytest.raises(InputError, match=says):
        engine.bind(feeds)


def test_run_before_bind_is_refused(engine):
    with pytest.raises(EngineError, match="bind"):
        engine.run()


@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.parametrize("content", ["missing", "empty", "text", "truncated"])
def test_a_file_that_is_not_a_net_is_refused_with_its_name(name, tmp_path, nets, content):
    path, whole = tmp_path / "broken.onnx", nets.fp32.read_bytes()
    if content != "missing":
        path.write_bytes({"empty": b"", "text": b"not a net", "truncated": whole[: len(whole) // 2]}[content])
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        open_engine(name, path, "fp32")


@pytest.mark.parametrize("name", FLOAT)
def test_open_shapes_are_refused_with_the_way_out(name, tmp_path, nets):
    import onnx

    model = onnx.load(nets.fp32)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(EngineError, match=r"'image'.*open shape.*fixed sizes"):
        open_engine(name, tmp_path / "open.onnx", "fp32")


@pytest.mark.parametrize("name", FLOAT)
def test_an_operator_that_the_engine_does_not_know_is_refused_by_name(name, save_net):
    path = save_net("odd", [("Conjure", ["x"], "y", {})], {"x": [1, 4]}, {"y": [1, 4]}, {})
    with pytest.raises(EngineError, match=r"(?s)odd\.onnx.*Conjure"):
        open_engine(name, path, "fp32")
