"""Recipe of GCD: what a step of its diffusion is to the net, and when a quantised one dances like its original."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgeflock.export.datasets.dances import CHUNK, Dances
from edgeflock.export.graph import predictor
from edgeflock.export.nets import CHOREOGRAPHY_NETS
from edgeflock.export.nets.gcd import GCD
from edgeflock.export.onnx import check_parity, export_onnx
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.recipes.limits import ChoreographyLimits
from edgeflock.export.training.loop.checkpoint import load_checkpoint
from edgeflock.runtime.bundle.manifest import Criterion, Training
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.motion.diffusion import STEPS as ALL_STEPS
from edgeflock.runtime.motion.diffusion import sample
from edgeflock.runtime.motion.group import RATE, group_of_rows, row_size
from edgeflock.runtime.motion.measures import energy, group_beat_match
from edgeflock.runtime.tasks.choreography import (
    FEATURES,
    HEARD,
    MUSIC,
    NOISE,
    ORDER,
    STEPS,
    choreography_inputs,
    choreography_output,
)

SONGS = 16
"""Songs that the gate judges dances to and, of the training songs, that INT8 gets its ranges from."""
REFERENCES = 2


class Ear(nn.Module):
    """What GCD hears of a chunk: features (1, 150, F) and noise (1, width) -> tokens, summary and group embedding."""

    def __init__(self, net: GCD) -> None:
        super().__init__()
        self.net = net

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `GCD.encode` and `GCD.embed_group`."""
        heard = self.net.encode(features)
        return heard.tokens, heard.summary, self.net.embed_group(heard, noise)


def choreography_recipe(
    weights: Path,
    validation: Dances,
    calibration: Dances | None,
    *,
    net: str | None = None,
    dancers: int = 3,
    songs: int = SONGS,
    limits: ChoreographyLimits | None = None,
    precision: str = "int8",
    training: Training | None = None,
) -> Recipe:
    """Recipe of a trained GCD.

    Parameters
    ----------
    weights : Path
        Of `edgeflock train gcd`; the net is recognised by its tensors.
    validation, calibration : Dances
        To whose songs the gate lets dance, and those to which INT8 gets its ranges (None: no INT8). No dance of theirs
        is looked at.
    net : str, optional
        Key of `NETS` that the weights must belong to.
    dancers : int
        Of the group; the graph is made for so many.
    songs : int
        How many songs of each are used.
    limits : ChoreographyLimits, optional
    precision : str
        What the bundle dances with unless told otherwise.
    training : Training, optional
        How the weights came about.

    Raises
    ------
    InputError, DataError
        What is wrong with weights or dances.
    ParityError
        What hears the music is another net as ONNX.
    """
    name, module = load_checkpoint(weights)
    if not isinstance(module, GCD) or net not in (None, name):
        fitting = [known for known in CHOREOGRAPHY_NETS if known.startswith("gcd")]
        raise InputError(f"{weights} holds a {name}, expected {net or 'one of ' + ', '.join(fitting)}.")
    for data in (validation, *([calibration] if calibration else [])):
        if data.features != module.features:
            raise InputError(f"{name} takes {module.features} features of music, {data.source} has {data.features}.")
    if dancers < 1:
        raise InputError(f"expected at least one dancer, got {dancers}.")
    module.eval()
    ear = Ear(module)
    graph = export_onnx(ear, {FEATURES: (1, CHUNK, module.features), NOISE: (1, module.width)}, HEARD)
    judged = starts(ear, validation, songs, dancers)
    asked = {key: judged.labels[key] for key in (FEATURES, NOISE)}
    check_parity(ear, graph, asked, judged.names)
    limits = limits or ChoreographyLimits()
    references = np.unique(np.linspace(0, len(judged) - 1, REFERENCES).astype(int))
    return Recipe(
        task="choreography",
        name=f"choreography-{name}",
        net=name,
        module=module,
        inputs=choreography_inputs(dancers, module.width),
        outputs=[choreography_output(dancers)],
        validation=judged,
        calibration=None if calibration is None else along(module, starts(ear, calibration, songs, dancers)),
        judge=lambda fp32, candidate, on: judge(fp32, candidate, on, limits),
        references=references,
        answers=danced,
        files={MUSIC: graph.SerializeToString(deterministic=True)},
        vectors={key: np.ascontiguousarray(array[references]) for key, array in asked.items()},
        default_precision=precision,
        training=training or Training(),
    )


def starts(ear: Ear, data: Dances, songs: int, dancers: int) -> Samples:
    """Noise (n, N, 150, 151) at the noisiest step before the beginning of some songs, with what the net hears of them.

    Labels are what `Ear` was asked, and the beats (n, most), s, filled up with NaN.
    """
    chosen = np.unique(np.linspace(0, len(data) - 1, songs).astype(int))
    rng = np.random.default_rng([len(data), 35])
    width = ear.net.width
    asked = {
        FEATURES: np.stack([data.music[i][:CHUNK] for i in chosen]),
        NOISE: rng.normal(size=(len(chosen), width)).astype(np.float32),
    }
    with torch.inference_mode():
        heard = ear(*(torch.from_numpy(array) for array in asked.values()))
    feeds = {
        "motion": rng.normal(size=(len(chosen), dancers, CHUNK, row_size())).astype(np.float32),
        "step": np.full(len(chosen), ALL_STEPS - 1, np.float32),
        **dict(zip(HEARD, (tensor.numpy() for tensor in heard), strict=True)),
    }
    most = max(len(data.beats[i]) for i in chosen)
    beats = np.stack([np.pad(data.beats[i], (0, most - len(data.beats[i])), constant_values=np.nan) for i in chosen])
    sha = hashlib.sha256()
    for array in (*asked.values(), feeds["motion"]):
        sha.update(array.data)
    names = [f"{data.source}, song {i}" for i in chosen]
    return Samples(feeds, {**asked, "beats": beats}, names, sha.hexdigest())


def along(net: GCD, first: Samples) -> Samples:
    """The same songs at every step on the way from the noise to the dance: what the net is asked in service."""
    parts: list[Samples] = []

    def denoise(noisy: np.ndarray, step: int) -> np.ndarray:
        feeds = {**first.feeds, "motion": noisy, "step": np.full(len(first), step, np.float32)}
        parts.append(Samples(feeds, first.labels, [f"{name}, step {step}" for name in first.names], first.digest))
        with torch.inference_mode():
            return net(*(torch.from_numpy(array) for array in feeds.values())).numpy()

    sample(denoise, first.feeds["motion"], STEPS, ORDER)
    feeds = {name: np.concatenate([part.feeds[name] for part in parts]) for name in first.feeds}
    labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in first.labels}
    return Samples(feeds, labels, [name for part in parts for name in part.names], first.digest)


def danced(model: onnx.ModelProto, samples: Samples) -> Answers:
    """Whole dances (n, N, 150, 151) out of each sample's noise, as a robot makes them in `STEPS` steps."""
    answer = predictor(model)

    def denoise(noisy: np.ndarray, step: int) -> np.ndarray:
        feeds = {**samples.feeds, "motion": noisy, "step": np.full(len(samples), step, np.float32)}
        return answer(feeds)["clean"]

    return {"clean": sample(denoise, samples.feeds["motion"], STEPS, ORDER)}


def judge(fp32: Answers, candidate: Answers, songs: Samples, limits: ChoreographyLimits) -> Judgement:
    """Let a net pass only if its dances are its original's: joints where they were, on the beat, as lively."""
    reference, got = (
        np.stack([group_of_rows(rows).joints() for rows in answers["clean"]]) for answers in (fp32, candidate)
    )
    apart = np.linalg.norm(got - reference, axis=-1).mean((1, 2, 3))
    still = np.linalg.norm(reference - reference.mean(2, keepdims=True), axis=-1).mean()
    beats = [known[np.isfinite(known)] for known in songs.labels["beats"]]
    matched = [
        float(np.mean([group_beat_match(at, known, RATE)[1] for at, known in zip(places, beats, strict=True)]))
        for places in (reference, got)
    ]
    lively = [energy(places, RATE) for places in (reference, got)]
    return Judgement(
        metric="distance of joints from fp32's dance",
        unit="m",
        value=float(apart.mean()),
        fp32=0.0,
        constant=float(still),
        criteria=[
            Criterion(
                name="distance of joints as a share of that from standing still",
                value=float(apart.mean() / max(still, 1e-9)),
                limit=limits.max_ratio,
            ),
            Criterion(name="MMC above chance lost to fp32", value=matched[0] - matched[1], limit=limits.max_drop),
            Criterion(
                name="change of the motion's energy from fp32",
                value=abs(lively[1] / max(lively[0], 1e-9) - 1),
                limit=limits.max_change,
            ),
        ],
        options=["--max-ratio", "--max-drop", "--max-change"],
        worst=[f"{songs.names[i]}: joints {apart[i]:.3f} m from fp32's dance" for i in np.argsort(-apart)[:3]],
    )
