"""A manifest says of each input what its kind has, and what an older edgeflock wrote is still read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edgeflock.runtime.bundle.bundle import Bundle, read_manifest, sign_bundle, write_bundle
from edgeflock.runtime.bundle.manifest import (
    AudioInput,
    ImageInput,
    InputSpec,
    Manifest,
    MotionInput,
    OutputSpec,
    VectorInput,
    VolumeInput,
)
from edgeflock.runtime.errors import BundleError
from edgeflock.runtime.prepare.frame import STEERING_INPUT
from edgeflock.runtime.tasks import open_task

pytestmark = pytest.mark.usefixtures("home")

SCHEMA_2 = Path(__file__).parents[2] / "fixtures" / "schema2"
"""Written and signed by the last edgeflock that wrote schema 2."""

KINDS = [
    (STEERING_INPUT, "float32 [1, 1, 200, 200], grey 0..255, resized to 320x240 (linear_exact), cropped bottom-centre"),
    (VolumeInput(name="scan", shape=(1, 1, 8, 8, 8), range=(0, 255)), "float32 [1, 1, 8, 8, 8], scan 0..255"),
    (
        AudioInput(
            name="music",
            shape=(1, 150, 35),
            rate_hz=30,
            parts=[{"name": "onset", "size": 1}, {"name": "MFCC", "size": 20}, {"name": "chroma", "size": 14}],
        ),
        "float32 [1, 150, 35] at 30 Hz: 1 onset, 20 MFCC, 14 chroma",
    ),
    (
        MotionInput(
            name="motion",
            shape=(1, 3, 150, 151),
            dtype="float16",
            rate_hz=30,
            parts=[{"name": "root", "size": 3}, {"name": "joints", "size": 144}, {"name": "contacts", "size": 4}],
            rotation="rot6d",
            up="y",
        ),
        "float16 [1, 3, 150, 151] at 30 Hz: 3 root, 144 joints, 4 contacts; rotations as rot6d, y up",
    ),
    (VectorInput(name="step", shape=(1,), dtype="int64", unit="steps"), "int64 [1] steps"),
    (VectorInput(name="go", shape=(1, 2), dtype="bool", labels=["left", "right"]), "bool [1, 2]: left, right"),
]


@pytest.mark.parametrize(("spec", "text"), KINDS, ids=lambda value: getattr(value, "kind", ""))
def test_an_input_is_read_back_as_its_kind_and_says_what_it_takes(spec, text):
    document = json.loads(spec.model_dump_json())
    assert TypeAdapter(InputSpec).validate_python(document) == spec
    assert str(spec).startswith(text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "smell"}, "'image', 'volume', 'audio', 'motion', 'vector'"),
        ({"kind": "volume"}, "color"),
        ({"kind": "vector"}, "Extra inputs are not permitted"),
        ({"color": "intensity"}, "'grey', 'rgb' or 'bgr'"),
        ({"dtype": "complex64"}, "float32"),
        ({"rate_hz": 30}, "rate_hz"),
    ],
)
def test_an_input_has_the_fields_of_its_kind_and_no_other(change, says):
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(InputSpec).validate_python(STEERING_INPUT.model_dump(mode="json") | change)


def test_the_parts_of_a_row_must_make_the_row():
    with pytest.raises(ValidationError, match=r"parts of input 'music' make rows of 20, its shape is \[1, 150, 35\]"):
        AudioInput(name="music", shape=(1, 150, 35), rate_hz=30, parts=[{"name": "MFCC", "size": 20}])


# ---- schema 2


@pytest.fixture(params=["steering", "registration"])
def old(request, tmp_path):
    return Path(shutil.copytree(SCHEMA_2 / request.param, tmp_path / request.param))


def test_a_bundle_of_schema_2_opens_by_its_own_signature_and_answers(old):
    assert json.loads((old / "manifest.json").read_bytes())["schema_version"] == 2
    task = open_task(old, keys=[SCHEMA_2 / "schema2.pub"])
    assert task.bundle.manifest.schema_version == 3 and task.deviation < 1e-4


def test_inputs_of_schema_2_become_images_and_scans():
    (image,) = read_manifest(SCHEMA_2 / "steering")[0].inputs
    assert image == STEERING_INPUT and isinstance(image, ImageInput)
    assert [spec.kind for spec in read_manifest(SCHEMA_2 / "registration")[0].inputs] == ["volume", "volume"]


def test_training_of_schema_2_is_synthetic_where_all_its_sources_said_so():
    synthetic, unknown = (read_manifest(SCHEMA_2 / task)[0].training for task in ("registration", "steering"))
    assert synthetic.synthetic is True and unknown.synthetic is None
    assert unknown.command == "edgeflock train steering" and unknown.model_extra["figures"] == {"rmse": 0.04}


def test_signing_writes_a_bundle_of_schema_2_in_schema_3_with_the_same_files_and_figures(old, key):
    before = json.loads((old / "manifest.json").read_bytes())
    opened = Bundle.open(sign_bundle(old, key), [key.with_suffix(".pub")])
    after = json.loads((old / "manifest.json").read_bytes())
    assert after["schema_version"] == 3
    for field in ("files", "artefacts", "gates", "created", "provenance"):
        assert after[field] == before[field]
    assert opened.manifest == Manifest.model_validate(after)


def test_what_is_wrong_with_a_manifest_of_schema_2_is_told_by_its_field(old, key):
    document = json.loads((old / "manifest.json").read_bytes())
    document["inputs"] = "an image"
    (old / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="inputs: Input should be a valid list"):
        sign_bundle(old, key)


# ---- inputs that are not float32


def test_a_net_with_inputs_and_outputs_of_other_dtypes_runs_as_its_bundle_says(tmp_path, key):
    import onnx
    from onnx import TensorProto, helper
    from safetensors.numpy import save

    from edgeflock.runtime.tasks.base import NetTask

    class Gate(NetTask):
        task = "gate"

        def check(self, manifest):
            """Take any."""

        def example(self):
            return (3, True)

        def __call__(self, step, go):
            self.inputs["step"][:], self.inputs["go"][:] = step, go
            self.run()
            return int(self.outputs["next"][0])

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["go"], ["one"], to=TensorProto.INT64),
            helper.make_node("Add", ["step", "one"], ["next"]),
        ],
        "gate",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("go", TensorProto.BOOL, [1]),
        ],
        [helper.make_tensor_value_info("next", TensorProto.INT64, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    step, go = VectorInput(name="step", shape=(1,), dtype="int64"), VectorInput(name="go", shape=(1,), dtype="bool")
    artefacts = {"fp32": {"file": "gate_fp32.onnx", "opset": 17, "ir": 8}}
    fields = {"name": "gate", "net": "gate", "task": "gate", "artefacts": artefacts, "default_precision": "fp32"}
    vectors = save({"step": np.array([3, 7]), "go": np.array([True, False]), "next_fp32": np.array([4, 7])})
    files = {"gate_fp32.onnx": model.SerializeToString(), "vectors.safetensors": vectors}

    def bundle(dtype):
        out = OutputSpec(name="next", shape=(1,), dtype=dtype, unit="steps", tolerance=0)
        folder = write_bundle(tmp_path / dtype, Manifest(**fields, inputs=[step, go], outputs=[out]), files)
        return Bundle.open(sign_bundle(folder, key), [key.with_suffix(".pub")])

    task = Gate(bundle("int64"))
    assert task(41, True) == 42 and task.inputs["step"].dtype == np.int64
    with pytest.raises(BundleError, match="other outputs than its manifest says"):
        Gate(bundle("float32"))
