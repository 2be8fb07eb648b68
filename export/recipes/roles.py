"""What a net of one's own does on a robot: steer, read faces, or tell classes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeflock.export.foreign.graph import emotion_of, outputs_of, steering_of
from edgeflock.export.graph import ExportedNet, predict
from edgeflock.export.recipe import Answers, Judgement, Recipe, Samples
from edgeflock.export.recipes.generic import labels_of
from edgeflock.export.recipes.limits import NetLimits, SteeringLimits
from edgeflock.export.recipes.steering import judge as judge_steering
from edgeflock.runtime.bundle.manifest import ImageInput
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.face import face_input
from edgeflock.runtime.tasks.emotion import probabilities_output
from edgeflock.runtime.tasks.generic import PROBABILITY
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT


def as_steering(recipe: Recipe, scale: float, metric: str, limits: NetLimits, angle: str = "") -> Recipe:
    """The recipe of a net that a robot steers by: a number of its answers, times `scale`, is the front wheels' angle.

    Parameters
    ----------
    recipe : Recipe
        Of a net that takes one picture, and possibly numbers.
    scale : float
        rad, left positive, where the net says 1.
    metric : str
    limits : NetLimits
    angle : str
        "output", or "output:index", that has the number; by default the only output of one number. All else that the
        net answers stays an output, behind the angle.

    Raises
    ------
    InputError
        It takes other things than that, or does not say which number.
    """
    net = _graph(recipe)
    sizes = {output.name: int(np.prod(output.shape)) for output in recipe.outputs}
    name, index = _angle(angle, sizes)
    kinds = [spec.kind for spec in recipe.inputs]
    if kinds.count("image") != 1 or set(kinds) - {"image", "vector"} or name is None:
        raise InputError(
            f"--task steering: expected one picture in, with numbers or without, and one number out, got "
            f"{_ends(recipe)}: name the number with --angle OUTPUT or --angle OUTPUT:INDEX."
        )
    driving = SteeringLimits(max_rise=limits.max_rise, max_ratio=limits.max_ratio)

    def judge(fp32: Answers, candidate: Answers, on: Samples) -> Judgement:
        if metric != "rmse":
            return recipe.judge(fp32, candidate, on)
        labels_of(on, "angle", "rmse")
        verdict = judge_steering(fp32, candidate, on, driving)
        return verdict.model_copy(update={"options": ["--max-rise", "", "--max-ratio", ""]})

    made = steering_of(net.model, scale, name, index)
    specs = {output.name: output for output in recipe.outputs}
    others = [
        specs[key.removesuffix("_all") if key not in specs else key].model_copy(update={"name": key})
        for key in list(outputs_of(made))[1:]
    ]
    return replace(
        recipe,
        task="steering",
        name=f"steering-{recipe.net}",
        module=replace(net, model=made),
        outputs=[STEERING_OUTPUT, *others],
        judge=judge,
    )


def _angle(told: str, sizes: Mapping[str, int]) -> tuple[str | None, int | None]:
    """Output and index of the number that is the angle, no index where it is the output's only one."""
    if not told:
        single = [name for name, size in sizes.items() if size == 1]
        return (single[0] if len(single) == 1 else None), None
    name, _, number = (told, "", "") if told in sizes else told.rpartition(":")
    if name not in sizes or not (number.isdigit() or (number == "" and sizes[name] == 1)):
        return None, None
    index = int(number or 0)
    return (name if index < sizes[name] else None), (None if sizes[name] == 1 else index)


def as_emotion(recipe: Recipe, labels: Sequence[str]) -> Recipe:
    """The recipe of a net that reads a face: one picture of it in, a score for each of `labels` out.

    Scores that are no distribution become one by a softmax.

    Raises
    ------
    InputError
        It takes another thing than one square picture as a whole, or gives another number of scores.
    """
    net, spec = _graph(recipe), recipe.inputs[0]
    sizes = [int(np.prod(output.shape)) for output in recipe.outputs]
    if len(recipe.inputs) > 1 or not isinstance(spec, ImageInput) or sizes != [len(labels)]:
        raise InputError(
            f"--task emotion: expected one picture in and a number out for each of the {len(labels)} --labels, got "
            f"{_ends(recipe)}: name the classes with --labels in the order of the answer."
        )
    if spec.shape[2] != spec.shape[3] or spec.crop is not None or spec.dtype != "float32":
        raise InputError(
            f"--task emotion: expected a square float32 picture with --fit stretch, got {spec}: a face's box is "
            "stretched to the net's size."
        )
    output = probabilities_output(labels)
    return replace(
        recipe,
        task="emotion",
        name=f"emotion-{recipe.net}",
        module=replace(net, model=emotion_of(net.model, output, not _are_probabilities(recipe))),
        inputs=[face_input(spec.shape[3], spec.range, color=spec.color)],
        outputs=[output],
        validation=_of_face(recipe.validation),
        calibration=_of_face(recipe.calibration) if recipe.calibration else None,
    )


def as_classes(recipe: Recipe, labels: Sequence[str]) -> Recipe:
    """The recipe of a net whose first output has a score for each of `labels`.

    Raises
    ------
    InputError
        It has another number of values.
    """
    first, *others = recipe.outputs
    if int(np.prod(first.shape)) != len(labels):
        raise InputError(
            f"expected as many --labels as values of the first output, got {len(labels)} for {first.name} "
            f"{list(first.shape)}: name each class once, in the order of the answer."
        )
    unit = PROBABILITY if _are_probabilities(recipe) else ""
    return replace(recipe, outputs=[first.model_copy(update={"labels": list(labels), "unit": unit}), *others])


def _graph(recipe: Recipe) -> ExportedNet:
    assert isinstance(recipe.module, ExportedNet)
    return recipe.module


def _are_probabilities(recipe: Recipe) -> bool:
    """Whether the first output is a distribution, as far as the samples tell."""
    some = recipe.validation.spread(4)
    scores = next(iter(predict(_graph(recipe).model, some.feeds).values())).reshape(len(some), -1)
    return bool(scores.min() >= 0 and np.abs(scores.sum(1, dtype=np.float64) - 1).max() < 1e-3)


def _of_face(samples: Samples) -> Samples:
    [feed] = samples.feeds.values()
    return replace(samples, feeds={"face": feed})


def _ends(recipe: Recipe) -> str:
    taken = ", ".join(f"{spec.kind} {spec.name!r} {list(spec.shape)}" for spec in recipe.inputs)
    given = ", ".join(f"{int(np.prod(output.shape))} numbers {output.name!r}" for output in recipe.outputs)
    return f"{taken} in, {given} out"
