"""The recipe of GCD: the bundle dances as torch does, and a candidate is judged by whole dances."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fixtures.dances import some_songs, tiny_gcd

from edgeflock.export.recipes import choreography
from edgeflock.export.recipes.choreography import Ear, along, choreography_recipe, danced, judge, starts
from edgeflock.export.recipes.limits import ChoreographyLimits
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.motion.diffusion import sample
from edgeflock.runtime.motion.group import group_of_rows
from edgeflock.runtime.tasks import open_task

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bundle(dance_bundle):
    return Bundle.open(dance_bundle.path, [dance_bundle.key])


def test_a_whole_sample_of_fifty_steps_is_torchs_within_a_tenth_of_a_millimetre(bundle):
    net, task = tiny_gcd(), open_task(bundle, "fp32")
    begun = starts(Ear(net), some_songs(1, "other"), 1, 2)
    for name, array in task.inputs.items():
        array[...] = begun.feeds[name]

    def by_torch(noisy, step):
        with torch.inference_mode():
            heard = [torch.from_numpy(begun.feeds[name]) for name in ("tokens", "summary", "group")]
            return net(torch.from_numpy(noisy), torch.full((1,), float(step)), *heard).numpy()

    def by_bundle(noisy, step):
        task.inputs["motion"][...], task.inputs["step"][...] = noisy, step
        task.run()
        return task.outputs["clean"].copy()

    ours, theirs = (sample(net, begun.feeds["motion"], 50) for net in (by_bundle, by_torch))
    apart = group_of_rows(ours[0]).joints() - group_of_rows(theirs[0]).joints()
    assert np.abs(apart).max() < 1e-4


def test_the_bundle_says_what_its_rows_are(bundle):
    motion = bundle.manifest.inputs[0]
    assert (motion.kind, motion.shape, motion.rotation, motion.up) == ("motion", (1, 2, 150, 151), "rot6d", "y")
    assert [(part.name, part.size) for part in motion.parts] == [("root", 3), ("rotations", 144), ("contacts", 4)]
    assert bundle.manifest.gates["int8"].metric == "distance of joints from fp32's dance"


def test_dense_layers_become_integers_where_nothing_convolves(bundle):
    graph = onnx.load(bundle.artefact("int8")).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    taken = [made_by.get(node.input[0]) for node in graph.node if node.op_type == "Gemm"]
    assert taken.count("DequantizeLinear") >= len(taken) // 2


def test_int8_is_calibrated_along_the_whole_way_and_judged_from_the_noise():
    net = tiny_gcd()
    begun = starts(Ear(net), some_songs(3, "song"), 2, 2)
    assert len(begun) == 2 and (begun.feeds["step"] == 999).all()
    way = along(net, begun)
    assert len(way) == 16 and len(set(way.feeds["step"])) == 8
    np.testing.assert_array_equal(way.feeds["motion"][:2], begun.feeds["motion"])
    assert np.abs(way.feeds["motion"][-2:]).mean() != pytest.approx(np.abs(begun.feeds["motion"]).mean(), rel=0.01)


def test_a_dance_that_freezes_drifts_or_shakes_is_refused(bundle):
    limits = ChoreographyLimits()
    songs = starts(Ear(tiny_gcd()), some_songs(2, "song"), 2, 2)
    fp32 = danced(onnx.load(bundle.artefact("fp32")), songs)
    assert judge(fp32, fp32, songs, limits).passed
    rows = fp32["clean"]
    shaken = rows + np.random.default_rng(0).normal(0, 0.1, rows.shape)
    for broken in (np.repeat(rows.mean(2, keepdims=True), 150, 2), rows + np.eye(151)[0], shaken):
        verdict = judge(fp32, {"clean": broken}, songs, limits)
        assert not verdict.passed and "song 0" in verdict.worst[0] + verdict.worst[1]


def test_other_nets_and_other_music_are_refused(monkeypatch):
    songs = some_songs(2, "val")
    monkeypatch.setattr(choreography, "load_checkpoint", lambda path: ("gdancer-small", torch.nn.Linear(1, 1)))
    with pytest.raises(InputError, match="holds a gdancer-small, expected one of gcd, gcd-52, gcd-small"):
        choreography_recipe(Path("best.safetensors"), songs, None)
    monkeypatch.setattr(choreography, "load_checkpoint", lambda path: ("gcd-small", tiny_gcd()))
    deaf = type(songs)(songs.rows, [music[:, :35] for music in songs.music], songs.beats, "edge", True)
    with pytest.raises(InputError, match="takes 52 features of music, edge has 35"):
        choreography_recipe(Path("best.safetensors"), deaf, None)
    with pytest.raises(InputError, match="at least one dancer, got 0"):
        choreography_recipe(Path("best.safetensors"), songs, None, dancers=0)
