"""The emotion recipe: what a face is to the net, and when a candidate still reads it like its original."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgeflock.export.datasets.emotion import emotion_inputs
from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_face
from edgeflock.export.nets import NETS
from edgeflock.export.pipeline import export_bundle
from edgeflock.export.recipe import Samples
from edgeflock.export.recipes.emotion import emotion_recipe, judge
from edgeflock.export.recipes.limits import EmotionLimits
from edgeflock.runtime.bundle.bundle import Bundle, generate_key
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.face import EmotionPreprocess
from edgeflock.runtime.tasks import open_task

torch.set_num_threads(1)

LENIENT = EmotionLimits(max_drop=0.5, min_agreement=0.5, max_distance=0.5, max_ratio=2.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a GLAMOR-Net that nobody trained, sharpened so that its answers differ."""
    torch.manual_seed(0)
    net = NETS["glamor"]()
    with torch.no_grad():
        net.head[3].weight *= 20
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def recipe(weights):
    return emotion_recipe(
        weights,
        samples=14,
        calibration_samples=7,
        limits=LENIENT,
    )


def test_faces_and_scenes_reach_the_net_as_the_robot_prepares_them(recipe):
    assert (recipe.net, recipe.task, recipe.name) == ("glamor", "emotion", "emotion-glamor")
    assert {name: feed.shape for name, feed in recipe.validation.feeds.items()} == {
        "face": (14, 3, 96, 96),
        "context": (14, 3, 112, 112),
    }
    assert len(recipe.calibration) == 7 and all("synthetic" in name for name in recipe.validation.names)
    EmotionPreprocess(recipe.inputs)
    assert recipe.outputs[0].labels == ["Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]


@pytest.mark.parametrize(
    ("name", "cells", "first"), [("glamor-resnet18", 4, "Anger"), ("fer-resnet50", None, "Neutral")]
)
def test_every_emotion_net_has_a_recipe(tmp_path, name, cells, first):
    save_file(NETS[name]().state_dict(), tmp_path / "w.safetensors")
    recipe = emotion_recipe(tmp_path / "w.safetensors", samples=7, calibration_samples=2)
    assert recipe.outputs[0].labels[0] == first
    assert [output.shape for output in recipe.outputs[1:]] == ([(1, 1, cells, cells)] if cells else [])


def test_references_show_different_emotions(recipe):
    assert len(recipe.references) == 8
    assert len(set(recipe.validation.labels["emotion"][list(recipe.references)])) == 7


def test_a_bundle_for_the_recogniser_comes_out_and_may_read_several_faces_at_once(weights, tmp_path):
    key = tmp_path / "fleet.pem"
    generate_key(key, "test")
    recipe = emotion_recipe(weights, samples=14, calibration_samples=7, limits=LENIENT, batch=3)
    export_bundle(recipe, tmp_path / "emotion", key, precisions=("fp32", "int8"))
    bundle = Bundle.open(tmp_path / "emotion", [key.with_suffix(".pub")])
    assert {spec.shape[0] for spec in (*bundle.manifest.inputs, *bundle.manifest.outputs)} == {3}
    recognizer = open_task(bundle)
    assert recognizer.precision == "int8" and recognizer.deviation == 0

    recognizer = open_task(bundle, "fp32")
    frame = recognizer.example()[0]
    boxes = [(40 * i, 20, 40 * i + 130, 190) for i in range(4)]  # two batches, the second one padded
    answers = recognizer(frame, boxes)
    prepare = EmotionPreprocess(emotion_inputs(recipe.module))
    expected = []
    for box in boxes:
        assert list(prepare.batches(frame, [box])) == [1]
        with torch.inference_mode():
            expected.append([y[0].numpy() for y in recipe.module.eval()(*map(torch.tensor, prepare.inputs.values()))])
    probabilities = np.array([list(answer.distribution.values()) for answer in answers])
    assert np.ptp(probabilities, 0).max() > 1e-4  # each face has an answer of its own
    np.testing.assert_allclose(probabilities, [p for p, _ in expected], atol=1e-5)
    np.testing.assert_allclose([answer.attention for answer in answers], [a[0] for _, a in expected], atol=1e-5)


def test_other_nets_are_refused(tmp_path, weights):
    save_file(NETS["dronet"]().state_dict(), tmp_path / "dronet.safetensors")
    with pytest.raises(InputError, match="holds a dronet, expected one of glamor, glamor-resnet18"):
        emotion_recipe(tmp_path / "dronet.safetensors")
    with pytest.raises(InputError, match="holds a glamor, expected fer-resnet18"):
        emotion_recipe(weights, net="fer-resnet18")


def test_own_images_are_never_mixed_with_rendered_ones(tmp_path, weights):
    for i, (image, label, *_) in enumerate(each_face(4, 1, 64)):
        path = tmp_path / EMOTIONS[label] / f"{i}.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), image[:, :, ::-1])
        path.with_suffix(".txt").write_text("8,4,56,60")
    recipe = emotion_recipe(weights, tmp_path)
    assert len(recipe.validation) == 4 and recipe.calibration is None
    assert len(emotion_recipe(weights, tmp_path, tmp_path).calibration) == 4
    with pytest.raises(InputError, match="own calibration images need own validation images"):
        emotion_recipe(weights, None, tmp_path)


# ---- the judge


def judged(change, right=90, n=100):
    """Judgement of answers that `change` makes of an fp32 net that names `right` of n emotions."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 7
    named = labels.copy()
    named[right:] = (labels[right:] + 1) % 7
    fp32 = 0.02 + 0.86 * np.eye(7)[named] + rng.uniform(0, 1e-6, (n, 7))
    faces = Samples({}, {"emotion": labels}, [f"face {i}" for i in range(n)], "digest")
    return judge({"probabilities": fp32}, {"probabilities": change(fp32.copy())}, faces, EmotionLimits())


def failed(judgement) -> list[str]:
    return [criterion.name for criterion in judgement.criteria if not criterion.passed]


def roll(share: int):
    """The first `share` answers name the next emotion."""

    def change(p):
        p[:share] = np.roll(p[:share], 1, 1)
        return p

    return change


def test_figures_are_accuracies():
    judgement = judged(roll(1))
    assert (judgement.metric, judgement.fp32) == ("accuracy", 0.9)
    assert judgement.value == pytest.approx(0.89) and judgement.constant == pytest.approx(0.15)
    assert judgement.passed and judgement.worst[0].startswith("face 0: emotion 0, fp32 0 (0.88), got 1")


CHANGED = "share of fp32's labels kept where they lead by 0.05"
FAR = "mean total variation distance from fp32"


def test_a_tie_that_falls_the_other_way_is_no_change_of_label():
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 7
    fp32 = np.eye(7)[labels] * 0.8 + rng.uniform(0, 0.02, (70, 7))
    fp32[::2] = np.eye(7)[labels[::2]] * 0.42 + np.eye(7)[(labels[::2] + 1) % 7] * 0.4
    got = fp32.copy()
    got[::2] += 0.03 * (np.eye(7)[(labels[::2] + 1) % 7] - np.eye(7)[labels[::2]])
    faces = Samples({}, {"emotion": labels}, [str(i) for i in range(70)], "digest")
    judgement = judge({"probabilities": fp32}, {"probabilities": got}, faces, EmotionLimits())
    assert next(c for c in judgement.criteria if c.name == CHANGED).value == 1
    assert failed(judgement) == ["drop of the accuracy below fp32"]  # which sees it where the label is known


@pytest.mark.parametrize(
    ("change", "right", "names"),
    [
        (lambda p: p, 90, []),
        (roll(2), 90, ["drop of the accuracy below fp32", CHANGED]),
        (lambda p: np.concatenate([p[:-3], np.roll(p[-3:], 3, 1)]), 90, [CHANGED, FAR]),
        (lambda p: 0.9 * p + 0.1 / 7, 90, [FAR]),
        (lambda p: p, 30, ["error as a share of the constant predictor's"]),
    ],
)
def test_each_way_of_getting_worse_is_seen(change, right, names):
    assert failed(judged(change, right)) == names
