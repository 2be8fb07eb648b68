"""`edgeflock export steering`: a checkpoint and recordings become a signed bundle, or a report that says why not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeflock.export.cli import steering
from edgeflock.export.datasets.dronet import DronetWriter
from edgeflock.export.nets import NETS
from edgeflock.runtime.bundle import Bundle, generate_key
from edgeflock.runtime.errors import BundleError, GateError, InputError
from edgeflock.runtime.tasks.steering import SteeringPolicy


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
    result = {
        "command": "edgeflock train ...",
        "seeds": {"training": 1},
        "figures": {"rmse": 0.07},
        "history": [{}] * 9,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def run(folder, out, **options):
    arguments = {
        "weights": folder / "best.safetensors",
        "data": [folder / "val"],
        "calib": [folder / "train"],
        "key": folder / "fleet.pem",
        "training": folder / "result.json",
        "max_ratio": 0.6,
        "frames": 32,
    }
    steering(out=out, **(arguments | options))
    return Bundle.open(out, [folder / "fleet.pub"])


@pytest.fixture(scope="module")
def bundle(workshop):
    return run(workshop, workshop / "steering")


def test_bundle_verifies_and_this_machine_answers_its_vectors(bundle):
    for precision in ("fp32", "int8"):
        assert SteeringPolicy(bundle, precision).deviation == 0


def test_manifest_tells_net_gate_training_and_tools(bundle):
    manifest = bundle.manifest
    assert (manifest.net, manifest.default_precision, sorted(manifest.artefacts)) == (
        "fadnet",
        "int8",
        ["fp32", "int8"],
    )
    assert {(artefact.opset, artefact.ir) for artefact in manifest.artefacts.values()} == {(17, 8)}
    assert manifest.gate.passed
    assert manifest.gate.frames == 60
    assert manifest.training == {"command": "edgeflock train ...", "seeds": {"training": 1}, "figures": {"rmse": 0.07}}
    assert manifest.provenance["parity"]["worst"] <= 1e-5
    assert manifest.provenance["calibration"]["frames"] == 32
    assert {"torch", "onnx", "onnxruntime"} <= set(manifest.tool_versions)


def test_reference_vectors_cover_left_straight_and_right(bundle):
    vectors = bundle.vectors()
    angles = vectors["steering_fp32"][:, 0]
    assert vectors["image"].shape == (16, 1, 200, 200)
    assert vectors["image"].dtype == np.uint8
    assert (angles > 0.1).sum() >= 3
    assert (angles < -0.1).sum() >= 3
    assert (np.abs(angles) < 0.1).sum() >= 3


def test_weights_in_the_bundle_are_those_that_were_exported(bundle, trained):
    weights = load_file(bundle.path / "weights.safetensors")
    net = NETS[bundle.manifest.net]()
    net.load_state_dict(weights)
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in weights.items())


def test_report_holds_the_verdict_the_sensitivity_and_a_picture(bundle):
    report = bundle.path.with_name("steering-report")
    content = json.loads((report / "gate.json").read_text())
    assert content["gate"] == bundle.manifest.gate.model_dump()
    assert "Conv MaxPool Add Relu" in {row["quantised"] for row in content["sensitivity"]}
    assert (report / "gate.png").read_bytes().startswith(b"\x89PNG")


def test_a_refused_net_leaves_a_report_and_no_bundle(workshop, tmp_path):
    with pytest.raises(GateError, match=r"constant predictor's: expected at most 0\.01") as refused:
        run(workshop, tmp_path / "refused", precision="fp32", max_ratio=0.01)
    assert refused.value.exit_code == 8
    assert not (tmp_path / "refused").exists()
    assert not json.loads((tmp_path / "refused-report" / "gate.json").read_text())["gate"]["passed"]


def test_fp32_alone_needs_no_calibration_and_still_passes_the_gate(workshop, tmp_path):
    bundle = run(workshop, tmp_path / "fp32", precision="fp32", calib=None)
    assert list(bundle.manifest.artefacts) == ["fp32"]
    assert set(bundle.vectors()) == {"image", "steering_fp32"}
    assert bundle.manifest.gate.precision == "fp32"
    assert bundle.manifest.gate.rmse_drop == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"net": "dronet"}, InputError, "holds a fadnet, --net asks for dronet"),
        ({"calib": None}, InputError, "name the training data with --calib"),
        ({"precision": "int4"}, InputError, "precision must be int8 or fp32, got 'int4'"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(workshop, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run(workshop, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_calibration_frames_may_not_be_judged(workshop, tmp_path):
    with pytest.raises(InputError, match=r"32 calibration frames are validation frames as well \(first: .*lanes_1"):
        run(workshop, tmp_path / "out", calib=[workshop / "val"])


def test_a_missing_key_or_result_is_named(workshop, tmp_path):
    with pytest.raises(BundleError, match=r"nowhere\.pem"):
        run(workshop, tmp_path / "out", key=tmp_path / "nowhere.pem")
    with pytest.raises(InputError, match=r"nowhere\.json: expected the result\.json of a training run"):
        run(workshop, tmp_path / "out", training=tmp_path / "nowhere.json")
