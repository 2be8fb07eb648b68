"""What holds for every engine. A new engine joins `ENGINES`: its name and how it is made from an ONNX file."""

import tracemalloc

import numpy as np
import pytest

from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import EngineError, InputError

ENGINES = {
    "onnxruntime-cpu": OnnxRuntimeEngine,
    "onnxruntime-cpu-2-threads": lambda path, precision: OnnxRuntimeEngine(path, precision, threads=2),
}
PRECISIONS = {"fp32": 1e-5, "int8": 1e-2}


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


@pytest.fixture(params=ENGINES)
def engine(request, nets, precision):
    return ENGINES[request.param](getattr(nets, precision), precision)


@pytest.fixture
def image():
    return np.zeros((1, 1, 200, 200), np.float32)


def test_it_says_what_it_is(engine, precision):
    assert engine.name and engine.precision == precision


def test_it_answers_as_the_reference_does(engine, nets, image, precision):
    answer = engine.bind({"image": image})["steering"]
    assert answer.shape == (1, 1) and answer.dtype == np.float32
    for given, expected in zip(nets.images, nets.steering[precision], strict=True):
        image[0] = given
        engine.run()
        assert answer[0] == pytest.approx(expected, abs=PRECISIONS[precision])


def test_the_reference_answers_differ_so_that_the_test_above_can_fail(nets, precision):
    assert np.ptp(nets.steering[precision]) > 10 * PRECISIONS[precision]


def test_outputs_stay_the_same_memory(engine, image):
    outputs = engine.bind({"image": image})
    answer, before = outputs["steering"], outputs["steering"].ctypes.data
    for _ in range(3):
        engine.run()
    assert outputs["steering"] is answer and answer.ctypes.data == before


def test_the_last_binding_counts(engine, nets):
    first, second = nets.images[:1].copy(), nets.images[3:].copy()
    old, new = engine.bind({"image": first})["steering"], engine.bind({"image": second})["steering"]
    engine.run()
    assert new[0, 0] != 0 and old[0, 0] == 0


def test_bound_memory_outlives_the_callers_names(engine, nets):
    answer = engine.bind({"image": nets.images[:1].copy()})["steering"]
    _ = [np.full((1, 1, 200, 200), 255, np.float32) for _ in range(8)]  # would reuse a freed block
    engine.run()
    again = engine.bind({"image": nets.images[:1].copy()})["steering"]
    engine.run()
    assert np.array_equal(answer, again)


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
    assert peak < 2048


def test_nan_goes_through(nets, image):
    # Only a float net can say NaN; the guard node relies on it.
    engine = OnnxRuntimeEngine(nets.fp32, "fp32")
    answer = engine.bind({"image": image})["steering"]
    image[:] = np.nan
    engine.run()
    assert np.isnan(answer[0, 0])


def test_every_node_that_runs_has_a_place(engine):
    placed = engine.placement()
    assert all(placed.values())
    # Engines may name what they fused as they like, but these two stand alone in both nets.
    assert {"pool", "head"} <= set(placed) and len(placed) >= 5


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


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("content", [None, b"", b"not a net"])
def test_a_file_that_is_not_a_net_is_refused_with_its_name(make, tmp_path, content):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        make(path, "fp32")
