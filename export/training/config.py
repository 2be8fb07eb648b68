"""Settings of a training run, by method, and those of the authors' code; verbs take their options from here.

Nothing here imports torch, so that `edgeflock train METHOD --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

LDLVA_SCHEDULES: dict[tuple[str, str], dict[str, Any]] = {
    ("released", "fer-resnet18"): {"lr": 1e-3, "milestones": (10, 20, 40)},
    ("released", "fer-resnet50"): {"lr": 1e-4, "milestones": (10, 30)},
    ("released-affectnet", "fer-resnet18"): {"lr": 3e-4, "milestones": (5, 10, 20), "drop": 0.2},
}
"""How the authors' code of LDLVA trains the nets, by preset and net; all as `LDLVA_RELEASED`."""

LDLVA_RELEASED: dict[str, Any] = {"epochs": 60, "warmup": 0.0, "ema": 0.0, "weight_decay": 0.0, "light": False}

GLAMOR_RELEASED: dict[str, Any] = {
    "optimiser": "sgd",
    "lr": 5e-4,
    "milestones": (25, 40),
    "floor": 1e-5,
    "batch": 4,
    "epochs": 60,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "ema": 0.0,
    "light": False,
}
"""Settings of the authors' code of GLAMOR-Net (`minhnhatvt/glamor-net`)."""

GCD_POST: dict[str, Any] = {
    **{"net": "gcd", "batch": 64, "lr": 1e-4, "negatives": 10, "epochs": 500, "ema": 0.9999, "warmup": 0.0},
}
"""Settings of GCD's paper (section 4); epochs stand for its 500,000 steps on a data set of 64,000 chunks."""


class RunConfig(BaseModel):
    """Everything, beside data and start weights, that decides what a training run computes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    net: str = Field(description="Key of edgeflock.export.nets.known_nets.")
    epochs: int = Field(40, ge=1, description="Passes over the training data.")
    batch: int = Field(64, ge=2, description="Images per step.")  # at least 2, for batch normalisation
    optimiser: Literal["adam", "sgd"] = Field("adam", description="sgd has a momentum of 0.9.")
    lr: float = Field(1e-3, ge=1e-9, description="Peak learning rate; it warms up and falls with a cosine.")
    milestones: tuple[int, ...] = Field(
        (), description="Epochs after which the learning rate falls to `drop` of itself; by default a cosine down to 0."
    )
    drop: float = Field(0.1, gt=0, lt=1)
    floor: float = Field(0, ge=0, description="Learning rate below which milestones do not let it fall.")
    weight_decay: float = Field(1e-5, ge=0)
    warmup: float = Field(0.03, ge=0, lt=1, description="Part of all steps in which the learning rate rises from 0.")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay per step of the averaged weights that are validated.")
    bf16: bool = Field(
        True,
        description="bfloat16 convolutions while training where the processor has them; validation is always float32.",
    )
    seed: int = Field(1204, ge=0, description="Seed of all that is drawn: start weights, order, augmentation, dropout.")


class SteeringConfig(RunConfig):
    """Settings of supervised steering."""

    net: str = Field("fadnet", description="fadnet, fadnet-released, fadnet-plus, dronet or mobilenet-v2.")
    weight_decay: float = Field(1e-5, ge=0, description="The authors' value (`aioz-ai/FADNet`).")
    augment: bool = Field(True, description="Vary light, blur, noise, occlusion; mirror with the angle.")
    shift: int = Field(0, ge=0, le=60, description="Shift images by up to PX, 0.002 rad per pixel.")


class RegistrationConfig(RunConfig):
    """Settings of registration.

    The authors train 100,000 steps of 4 pairs with a learning rate of 1e-4 on GPUs (`aioz-ai/LDR_ALDK`).
    """

    net: str = Field("ldr", description="ldr, ldr-2, ldr-3, ldr-cheap-head, vtn-affine, ... (docs).")
    size: int = Field(128, ge=16, description="Side that volumes are averaged to; a small one is a quick start.")
    steps: int = Field(100, ge=1, description="Steps per epoch.")
    batch: int = Field(1, ge=1, description="Pairs per step.")
    weight_decay: float = Field(0, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    # torch 2.13's bfloat16 gradients of VTN's convolutions were infinite on a CPU
    bf16: bool = Field(False, description="bfloat16 convolutions: faster, but VTN's gradients were infinite.")
    smoothness: float = Field(1.0, ge=0, description="Weight of the smoothness of each deformable stem's flow.")
    folds: float = Field(0.0, ge=0, description="Weight of the folds: mean of what the Jacobian lacks to 0.1.")
    affine: float = Field(0.1, ge=0, description="Weight of the two regularisers of an affine stem.")
    bend: float = Field(0.1, ge=0, description="Largest B-spline displacement of the moving volume, parts of its side.")
    pairs: int = Field(12, ge=1, description="Validation pairs.")


Mode = Literal["none", "mse", "features", "aldk-literal", "aldk", "best"]


class DistilConfig(RegistrationConfig):
    """Settings of registration that a teacher helps; what each mode does: docs/registration.md."""

    mode: Mode = Field(
        "aldk", description="What is learnt of the teacher: none, mse, features, aldk-literal, aldk or best."
    )
    teacher_pairs: int = Field(200, ge=1, description="Training pairs that the teacher answers and the student sees.")
    weight: float = Field(0.5, ge=0, description="Weight of the flow's distance to the teacher's: mse, features, best.")
    feature_weight: float = Field(0.1, ge=0, description="Weight of the features' distance to the teacher's: features.")
    critic: float = Field(0.1, ge=0, description="Weight of the critic beside the images: aldk.")
    critic_lr: float = Field(4e-4, ge=0, description="Learning rate of the critic: aldk, aldk-literal.")
    every: int = Field(3, ge=1, description="The critic acts on one of so many steps: aldk, aldk-literal.")
    penalty: float = Field(10.0, ge=0, description="Weight of the critic's gradient penalty: aldk.")


class DistilTable(BaseModel):
    """Settings of the comparison of all modes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    net: str = Field("ldr-cheap-head", description="The student.")
    teacher: str = Field("vtn", description="The teacher.")
    mode: tuple[Mode, ...] = Field(get_args(Mode), description="What is compared.")
    seed: tuple[int, ...] = Field((0, 1, 2), description="Each has other start weights and batches.")
    tuning_seed: int = Field(100, ge=0, description="Seed with which the smoothness is chosen.")
    smoothness: tuple[float, ...] = Field((0.5, 1, 2, 4), description="To choose from.")
    size: int = Field(64, ge=16, description="Side of the volumes.")
    bodies: int = Field(4, ge=2, description="Training volumes of the students.")
    steps: int = Field(240, ge=2, description="Steps of a student, each of --batch pairs.")
    teacher_steps: int = Field(1000, ge=1, description="Steps of the teacher.")
    batch: int = Field(1, ge=1, description="Pairs per step.")
    lr: float = Field(2e-3, ge=1e-9, description="Peak learning rate of the students.")
    teacher_lr: float = Field(5e-4, ge=1e-9, description="Peak learning rate of the teacher.")
    pairs: int = Field(12, ge=1, description="Pairs for choosing, and pairs for the table.")


class EmotionSource(BaseModel):
    """Images that an emotion net learns from and is judged on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path | None = Field(
        None, description="Training data as in docs/emotion-data.md; rendered (synthetic) by default."
    )
    val: Path | None = Field(None, description="Validation data; goes with --data.")
    samples: int | None = Field(
        None, ge=7, description="Training images: rendered ones (7000), of --data at most so many (all)."
    )

    @model_validator(mode="after")
    def _both(self) -> EmotionSource:
        if (self.data is None) != (self.val is None):
            raise ValueError("--data and --val go together: name both, or none for rendered images")
        return self


class EmotionConfig(RunConfig):
    """Settings of emotions by cross-entropy."""

    net: str = Field("glamor", description="glamor, glamor-resnet18, fer-resnet18 or fer-resnet50.")
    epochs: int = Field(10, ge=1, description="Passes over the training data.")
    batch: int = Field(32, ge=2, description="Images per step.")  # LDLVA's value (code of arXiv 2209.10448)
    weight_decay: float = Field(1e-4, ge=0)
    ema: float = Field(0.99, ge=0, lt=1, description="Decay per step of the averaged weights that are validated.")
    size: int | None = Field(
        None, ge=32, le=512, description="Side of faces while training; smaller is faster, then --init."
    )
    augment: bool = True
    mismatch: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of samples with another one's context, or the scene may do for the face.",
    )
    light: bool = Field(
        True, description="Also vary exposure, contrast, white balance and noise, and take the colour from some."
    )
    erase: bool = Field(True, description="Also shift faces and erase parts of them, as for LDLVA.")


class LdlvaConfig(EmotionConfig):
    """Settings of LDLVA; what is given stands above the preset."""

    net: str = Field("fer-resnet18", description="fer-resnet18 or fer-resnet50.")
    preset: Literal["post", "released", "released-affectnet"] = Field(
        "post",
        description="What the post says, or what the authors' code does for 60 epochs on RAF-DB and on AffectNet; "
        "options that are given stand above it.",
    )
    batch: int = Field(32, ge=2, description="Images per step, plus 8 neighbours each.")
    noise: float = Field(0.0, ge=0, le=0.99, description="Share of training labels to flip, for experiments.")

    @model_validator(mode="before")
    @classmethod
    def _below_what_is_given(cls, given: dict[str, Any]) -> dict[str, Any]:
        defaults = {name: cls.model_fields[name].default for name in ("preset", "net")}
        preset, net = ({**defaults, **given}[name] for name in defaults)
        if preset == "post":
            return given
        if (preset, net) not in LDLVA_SCHEDULES:
            known = ", ".join(f"{name} {held}" for name, held in LDLVA_SCHEDULES)
            raise ValueError(f"the released code has no values for {preset} {net}, only {known}: use --preset post")
        return LDLVA_RELEASED | LDLVA_SCHEDULES[preset, net] | given


class GlamorConfig(EmotionConfig):
    """Settings of GLAMOR-Net; what is given stands above the preset."""

    net: str = Field(
        "glamor", description="glamor, glamor-resnet18, glamor-context, glamor-mean or glamor-concat (docs/glamor.md)."
    )
    preset: Literal["post", "released"] = Field(
        "post",
        exclude=True,  # a run is known by what it sets
        description="released: the authors' code, SGD in three steps, batches of 4, 60 epochs; options that are given "
        "stand above it.",
    )
    erase: bool = False

    @model_validator(mode="before")
    @classmethod
    def _below_what_is_given(cls, given: dict[str, Any]) -> dict[str, Any]:
        return GLAMOR_RELEASED | given if given.get("preset") == "released" else given


class DanceConfig(RunConfig):
    """Settings of dances of groups."""

    batch: int = Field(16, ge=2, description="Groups per step.")
    lr: float = Field(5e-4, ge=1e-9, description="Peak learning rate; it warms up and falls with a cosine.")
    weight_decay: float = Field(0, ge=0)
    ema: float = Field(0.995, ge=0, lt=1, description="Decay per step of the averaged weights that are validated.")
    bf16: bool = Field(False, description="bfloat16 while training; what it costs these nets was not measured.")
    position: float = Field(1.0, ge=0, description="Weight of the joints' places, m.")
    velocity: float = Field(1.0, ge=0, description="Weight of the differences from frame to frame.")
    foot: float = Field(0.005, ge=0, description="Weight of feet that slide; the released code of GCD has 5.")


class GdancerConfig(DanceConfig):
    """Settings of GDanceR; its paper states none."""

    net: str = Field("gdancer-small", description="gdancer-small, or gdancer-small-alone without attention.")
    epochs: int = Field(40, ge=1, description="Passes over the training data.")
    forced: float = Field(
        0.2, ge=0, le=1, description="Share of true frames that are shown at the end; 1 at the start."
    )


class GcdConfig(DanceConfig):
    """Settings of GCD; what is given stands above the preset."""

    net: str = Field("gcd-small", description="gcd-small, gcd-52 or gcd (4800 features of Jukebox).")
    preset: Literal["brief", "post"] = Field(
        "brief",
        exclude=True,  # a run is known by what it sets
        description="post: the paper's net, batch, learning rate and negatives; options that are given stand above it.",
    )
    epochs: int = Field(60, ge=1, description="Passes over the training data.")
    drop: float = Field(0.2, ge=0, le=1, description="Share of groups whose music the net is not told.")
    nce: float = Field(0.001, ge=0, description="Weight of the contrastive loss; the released code has 1e-5.")
    negatives: int = Field(4, ge=1, description="Other groups that each is told from; the paper's 10.")
    replace: float = Field(0.5, ge=0, le=1, description="Chance of a dancer to be replaced in a negative.")

    @model_validator(mode="before")
    @classmethod
    def _below_what_is_given(cls, given: dict[str, Any]) -> dict[str, Any]:
        return GCD_POST | given if given.get("preset") == "post" else given
