"""`edgeflock export net`: one command from somebody's net to a signed bundle."""

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflock.export.cli import export_app
from edgeflock.runtime import load
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.errors import GateError, InputError
from edgeflock.runtime.tasks.emotion import EmotionRecognizer

pytestmark = pytest.mark.usefixtures("in_workshop")

FIRST = ["somebodys_net:build", "--calib=train", "--val=val", "--key=fleet.pem", "--size=32x24"]


def run(*words):
    return CliRunner().invoke(export_app, ["net", *words], catch_exceptions=False).stdout


@pytest.fixture(scope="module")
def exported(workshop):
    with pytest.MonkeyPatch.context() as here:
        here.chdir(workshop)
        said = run(*FIRST, "--mean=0.5", "--std=0.25", "--fit=letterbox", "--out=signs", "--name=signs")
    return said, Bundle.open(workshop / "signs", [workshop / "fleet.pub"])


def test_what_the_inputs_were_taken_for_is_shown(exported):
    said, _ = exported
    assert "image: rgb picture, 32x24 (letterboxed), nchw, pixels times 0.00392157, minus 0.5, over 0.25" in said


def test_the_bundle_has_gates_boards_vectors_and_every_precision_answers_them_again(exported):
    _, bundle = exported
    manifest = bundle.manifest
    assert (manifest.task, manifest.net, manifest.default_precision) == ("generic", "signs", "int8")
    assert {"fp32", "fp16", "int8", "int8-trt"} <= set(manifest.artefacts) == set(manifest.gates)
    assert "cpu-x86_64" in manifest.targets
    for precision in manifest.artefacts:
        assert load(bundle, precision=precision, engine="onnxruntime-cpu").deviation == 0


def test_the_robot_answers_a_picture_as_torch_does_after_the_same_preparation(exported, in_workshop):
    import torch

    _, bundle = exported
    from somebodys_net import build

    picture = cv2.imread("val/go/0.png")  # 40x32: as 30x24 in the middle of 32x24
    framed = np.full((24, 32, 3), 114, np.uint8)
    framed[:, 1:31] = cv2.resize(picture[..., ::-1], (30, 24), interpolation=cv2.INTER_LINEAR_EXACT)
    with torch.inference_mode():
        image = torch.from_numpy(framed.transpose(2, 0, 1)[None]).float()
        expected = build().eval()((image / 255 - 0.5) / 0.25)
    got = load(bundle, precision="fp32", engine="onnxruntime-cpu")(picture, "bgr8")
    np.testing.assert_allclose(got["output"], expected.numpy(), atol=1e-5)


def test_a_dry_run_says_what_boards_take_and_writes_nothing(in_workshop):
    said = run(*FIRST, "--out=nothing", "--dry-run")
    assert "int8: 2 Conv in 8 bits" in said and "jetson-orin-nano" in said and "cpu-x86_64" in said
    assert not (in_workshop / "nothing").exists()


def test_labels_come_from_the_folders_and_a_score_of_ones_own_is_a_metric(in_workshop):
    limits = ["--precision=fp32", "--default=fp32", "--max-ratio=9"]
    run(*FIRST, "--out=accuracy", "--metric=accuracy", *limits)
    run(*FIRST, "--out=own", "--metric=somebodys_net:score", *limits)
    for name, metric in (("accuracy", "accuracy"), ("own", "score")):
        gate = Bundle.open(in_workshop / name, [in_workshop / "fleet.pub"]).manifest.gates["fp32"]
        assert gate.metric == metric and gate.value == gate.fp32 and gate.samples == 16


def test_a_steering_net_in_degrees_right_positive_drives_by_rad_left_positive(in_workshop):
    import torch
    from somebodys_net import pilot

    words = ["somebodys_net:pilot", *FIRST[1:], "--task=steering", "--angle-scale=-0.0174533", "--precision=int8"]
    run(*words, "--out=pilot")
    frame = cv2.imread("val/go/0.png")
    policy = load(in_workshop / "pilot", keys=[in_workshop / "fleet.pub"], precision="fp32", engine="onnxruntime-cpu")
    with torch.inference_mode():
        seen = cv2.resize(frame[..., ::-1], (32, 24), interpolation=cv2.INTER_LINEAR_EXACT)
        degrees = pilot()(torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)[None])).float())
    assert policy(frame, "bgr8").angle == pytest.approx(-np.deg2rad(float(degrees)), abs=1e-6)
    assert "int8" in policy.bundle.manifest.artefacts


def test_a_steering_net_that_takes_its_speed_and_answers_more_than_the_angle(in_workshop):
    import torch
    from somebodys_net import conditional

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        images = rng.integers(0, 256, (8, 24, 32, 3), np.uint8)
        np.savez(f"{name}.npz", image=images, speed=rng.random((8, 1), np.float32))
    (in_workshop / "cil.yaml").write_text("image: {size: 32x24}\nspeed: {unit: m/s, shape: 1x1}\n")
    words = ["somebodys_net:conditional", "--calib=a.npz", "--val=b.npz", "--key=fleet.pem", "--inputs=cil.yaml"]
    with pytest.raises(InputError, match="name the number with --angle OUTPUT"):
        run(*words, "--task=steering", "--out=nothing")
    run(*words, "--task=steering", "--angle=controls:1", "--angle-scale=-0.5", "--precision=fp32", "--out=cil")
    policy = load(in_workshop / "cil", keys=[in_workshop / "fleet.pub"], engine="onnxruntime-cpu")
    assert [(spec.name, spec.unit) for spec in policy.others] == [("speed", "m/s")]
    frame = rng.integers(0, 256, (24, 32, 3), np.uint8)
    with torch.inference_mode():
        seen = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)[None])).float()
        controls = conditional()(seen, torch.tensor([[0.7]]))["controls"][0].tolist()
    assert policy(frame, "rgb8", {"speed": 0.7}).angle == pytest.approx(-0.5 * controls[1], abs=1e-5)
    assert policy.outputs["controls"][0].tolist() == pytest.approx(controls, abs=1e-5)
    with pytest.raises(InputError, match="steers by 'speed' as well"):
        policy(frame)


def test_a_net_of_grey_faces_reads_them_by_its_own_labels(in_workshop):
    import torch
    from somebodys_net import faces

    words = ["somebodys_net:faces", *FIRST[1:4], "--size=32x32", "--color=grey", "--task=emotion", "--precision=fp32"]
    run(*words, "--labels=Wink,Stop,Go", "--metric=accuracy", "--max-ratio=9", "--min-top1=0", "--out=faces")
    recognizer = EmotionRecognizer("faces", engine="onnxruntime-cpu", keys=["fleet.pub"])
    frame = cv2.imread("val/go/0.png")
    with torch.inference_mode():
        face = cv2.resize(frame[4:28, 8:40], (32, 32), interpolation=cv2.INTER_LINEAR_EXACT)
        grey = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)
        scores = faces()(torch.from_numpy(grey[None, None]).float())[0]
    [emotion] = recognizer(frame, [(8, 4, 40, 28)], "bgr8")
    expected = dict(zip(["Wink", "Stop", "Go"], torch.softmax(scores, 0).tolist(), strict=True))
    assert emotion.distribution == pytest.approx(expected, abs=1e-5)


def test_labels_stay_in_the_bundle_with_what_the_scores_are(in_workshop):
    run(*FIRST, "--out=named", "--labels=go,stop,c,d", "--precision=fp32")
    [output] = Bundle.open(in_workshop / "named", [in_workshop / "fleet.pub"]).manifest.outputs
    assert (output.labels, output.unit) == (["go", "stop", "c", "d"], "")


def test_where_the_default_is_named_and_refused_there_is_no_bundle(in_workshop):
    with pytest.raises(GateError, match="--min-sqnr"):
        run(*FIRST, "--out=refused", "--precision=int8", "--default=int8", "--min-sqnr=190")
    assert not (in_workshop / "refused").exists()


def test_where_none_is_named_and_int8_is_refused_the_bundle_is_used_in_fp32(in_workshop):
    said = run(*FIRST, "--out=floating", "--precision=int8", "--min-sqnr=190")
    assert "left out int8" in said and "used in fp32" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*FIRST, "--metric=best"], "expected --metric agreement, accuracy, rmse, miou or module:function"),
        ([*FIRST, "--metric=rmse"], "expected labels of the 4 values of output, got 1 each"),
        ([*FIRST, "--calib=val"], "validation samples as well"),
        (
            [*FIRST, "--task=steering"],
            "got image 'image' .1, 3, 24, 32. in, 4 numbers 'output' out",
        ),
        ([*FIRST, "--angle-scale=2"], "go with --task steering"),
        ([*FIRST, "--labels=go,stop"], "got 2 for output"),
        ([*FIRST, "--labels=go,b,c,d"], "class 'stop' is none of the --labels go, b, c, d"),
        ([*FIRST, "--labels=go,stop,Go,d"], "expected each name once"),
        ([*FIRST, "--task=emotion"], "each of the 0 --labels"),
        ([*FIRST, "--task=emotion", "--labels=go,stop,c,d"], "expected a square float32 picture"),
        ([*FIRST, "--color=grey"], "does not take float32 image"),
        ([*FIRST, "--mean=1,2"], "--mean: .*one number or three"),
        (["weights.pth", *FIRST[1:]], "weights alone are no net"),
        (["somebodys_net:needs_more", *FIRST[1:]], "without arguments"),
        (["somebodys_net:nobody", *FIRST[1:]], "has no attribute 'nobody'"),
        (["somebodys_net:build", *FIRST[1:4]], "torch does not say what shape 'image' has"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_way_out(words, said):
    with pytest.raises(InputError, match=said):
        run(*words, "--out=nothing")
