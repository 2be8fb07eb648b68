"""A recipe becomes a signed bundle with every precision, or a report that says why not."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from edgeflock.export.cli import export_app
from edgeflock.export.nets import NETS
from edgeflock.export.pipeline import PRECISIONS, _check_range
from edgeflock.export.recipe import Samples
from edgeflock.runtime.bundle.bundle import Bundle, generate_key
from edgeflock.runtime.errors import BundleError, EdgeflockError, GateError, InputError
from edgeflock.runtime.prepare.frame import STEERING_INPUT
from edgeflock.runtime.recording.dronet import DronetWriter
from edgeflock.runtime.tasks import open_task


@pytest.fixture(scope="module")
def workshop(trained, lanes, tmp_path_factory):
    """Weights, a validation and a calibration recording, a key and the training result."""
    folder = tmp_path_factory.mktemp("export")
    save_file(trained.state_dict(), folder / "best.safetensors")
    for name, count, seed in (("val", 60, 21), ("train", 50, 22)):
        with DronetWriter(folder / name / "lanes_1", {"world": "lanes", "seed": seed}) as writer:
            for frame, angle in zip(*lanes(count, seed), strict=True):
                writer.add(frame, float(angle), 1.0, 0.0, 0.0, 0.0)
    generate_key(folder / "fleet.pem", "test")
    (folder / "result.json").write_text(
        json.dumps({"command": "edgeflock train ...", "seeds": {"training": 1}, "history": [{}] * 9})
    )
    return folder


def run(folder, out, **options):
    arguments = {
        "weights": folder / "best.safetensors",
        "data": [folder / "val"],
        "calib": [folder / "train"],
        "key": folder / "fleet.pem",
        "training": folder / "result.json",
        "max_ratio": 0.6,
        "max_rise": 0.1,
        "frames": 32,
    }
    given = {name: value if isinstance(value, list) else [value] for name, value in (arguments | options).items()}
    words = [f"--{name.replace('_', '-')}={v}" for name, values in given.items() for v in values if v is not None]
    CliRunner().invoke(export_app, ["steering", "--out", str(out), *words], catch_exceptions=False)
    return Bundle.open(out, [folder / "fleet.pub"])


@pytest.fixture(scope="module")
def bundle(workshop):
    return run(workshop, workshop / "steering")


def test_every_precision_is_in_the_bundle_and_this_machine_answers_its_vectors(bundle):
    assert set(bundle.manifest.artefacts) == set(PRECISIONS)
    for precision in PRECISIONS:
        assert open_task(bundle, precision, engine="onnxruntime-cpu").deviation == 0


def test_manifest_tells_net_gates_boards_training_and_tools(bundle):
    manifest = bundle.manifest
    assert (manifest.net, manifest.task, manifest.default_precision) == ("fadnet", "steering", "int8")
    assert {(artefact.opset, artefact.ir) for artefact in manifest.artefacts.values()} == {(17, 8)}
    assert set(manifest.gates) == set(PRECISIONS)
    assert all(gate.passed and gate.samples == 60 for gate in manifest.gates.values())
    assert {support.precision for support in manifest.targets.values()} >= {"int8", "int8-trt", "int8-qnn"}
    assert manifest.training.model_dump(exclude_none=True) == {
        "command": "edgeflock train ...",
        "seeds": {"training": 1},
    }
    assert manifest.provenance["parity"]["worst"] <= 1e-5
    assert manifest.provenance["calibration"]["samples"] == 32
    assert {"torch", "onnx", "onnxruntime"} <= set(manifest.tool_versions)


def test_weights_in_the_bundle_are_those_that_were_exported(bundle, trained):
    weights = load_file(bundle.path / "weights.safetensors")
    net = NETS[bundle.manifest.net]()
    net.load_state_dict(weights)
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in weights.items())


def test_reference_inputs_are_held_as_small_as_they_came(bundle):
    assert bundle.vectors()["image"].dtype == np.uint8


def test_a_refused_net_leaves_a_report_and_no_bundle(workshop, tmp_path):
    with pytest.raises(GateError, match=r"constant predictor's: expected at most 0\.01") as refused:
        run(workshop, tmp_path / "refused", precision=["fp32"], default="fp32", max_ratio=0.01)
    assert refused.value.exit_code == 8
    assert "Worst samples: " in str(refused.value)
    assert str(refused.value).endswith("Way out: train longer, or set --max-ratio to what your data allows.")
    assert not (tmp_path / "refused").exists()
    assert list((tmp_path / "refused-report").iterdir())


def test_a_form_that_fails_is_left_out_with_its_reason(workshop, tmp_path, monkeypatch):
    from edgeflock.export import pipeline

    def ruined(model):
        from edgeflock.export.quantise.fp16 import to_fp16

        half = to_fp16(model)
        weight = next(i for i in half.graph.initializer if list(i.dims) == [128, 128, 3, 3])
        weight.raw_data = np.roll(np.frombuffer(weight.raw_data, np.float16), 9 * 128).tobytes()
        return half

    monkeypatch.setattr(pipeline, "to_fp16", ruined)
    bundle = run(workshop, tmp_path / "out", precision=["fp32", "fp16"], default="fp32")
    assert set(bundle.manifest.artefacts) == {"fp32"}
    assert "the gate refuses the fp16 net" in bundle.manifest.provenance["left_out"]["fp16"]


def test_fp32_alone_needs_no_calibration_and_still_passes_the_gate(workshop, tmp_path):
    bundle = run(workshop, tmp_path / "fp32", precision=["fp32"], default="fp32", calib=None)
    assert list(bundle.manifest.artefacts) == ["fp32"]
    assert set(bundle.vectors()) == {"image", "steering_fp32"}
    assert bundle.manifest.gates["fp32"].value == bundle.manifest.gates["fp32"].fp32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calib": None}, "name the training data with --calib"),
        ({"precision": ["int4"]}, "precisions are fp32, fp16, .*got int4"),
        ({"precision": ["fp32"]}, "int8, which the bundle uses by default, must be among them"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(workshop, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(workshop, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_calibration_samples_may_not_be_judged(workshop, tmp_path):
    with pytest.raises(InputError, match=r"32 calibration samples are validation samples as well \(first: .*lanes_1"):
        run(workshop, tmp_path / "out", calib=[workshop / "val"])


def test_a_missing_key_or_result_is_named(workshop, tmp_path):
    with pytest.raises(BundleError, match=r"nowhere\.pem"):
        run(workshop, tmp_path / "out", key=tmp_path / "nowhere.pem")
    with pytest.raises(InputError, match=r"nowhere\.json: expected the result\.json of a training run"):
        run(workshop, tmp_path / "out", training=tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "best.safetensors"}, "exists and is not a bundle"),
        ({"out": "val"}, "exists and is not a bundle"),
        ({"out": "val/new"}, "all of which this command reads"),
        ({"report": "train/new"}, "all of which this command reads"),
        ({"report": "best.safetensors"}, "expected a folder to write into, got the file"),
        ({"report": "steering/report"}, "lies in .*steering, which is replaced by the new bundle"),
        ({"weights": "steering/weights.safetensors"}, "lies in .*steering, which is replaced by the new bundle"),
        ({"out": "/proc/new"}, "cannot write /proc/new"),
    ],
)
def test_places_are_looked_at_before_any_data_is(workshop, bundle, monkeypatch, options, message):
    before = {path: path.read_bytes() for path in workshop.rglob("*") if path.is_file()}
    monkeypatch.setattr("edgeflock.export.datasets.open_dataset", None)
    with pytest.raises(EdgeflockError, match=message):
        run(workshop, **({"out": bundle.path} | {name: workshop / place for name, place in options.items()}))
    assert {path: path.read_bytes() for path in workshop.rglob("*") if path.is_file()} == before


def test_an_older_bundle_with_a_users_file_in_it_is_not_replaced(workshop, bundle, tmp_path):
    out = tmp_path / "steering"
    shutil.copytree(bundle.path, out)
    (out / "notes.txt").write_text("tyre pressure 2.1")
    with pytest.raises(InputError, match=r"holds what is not of its bundle: notes\.txt"):
        run(workshop, out)
    assert (out / "notes.txt").exists()


@pytest.mark.parametrize(("scale", "says"), [(1 / 255, "nothing above 1, as if divided by 255"), (2.0, "got 0..510")])
def test_samples_that_the_task_does_not_make_are_refused(scale, says):
    feeds = {"image": np.array([[0.0], [255.0]]) * scale}
    samples = Samples(feeds, {}, ["a", "b"], "0" * 64)
    with pytest.raises(InputError, match=f"calibration samples of input 'image': expected values 0..255 .*{says}"):
        _check_range(SimpleNamespace(inputs=[STEERING_INPUT]), samples, "calibration")
