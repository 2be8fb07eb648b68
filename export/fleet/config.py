"""Settings of simulated fleets, from which verbs take their options: nothing here imports torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SimulationConfig(BaseModel):
    """Everything, beside task and plan, that decides what a simulation computes.

    Modes are the three of arXiv 2110.05754, and silos alone beside them. `cll`: one learner with the data of all, whose
    step follows the mean gradient of a batch per silo. `sfl`: a server takes all models and gives the mean back in
    every round. `dfl`: silos mix with their neighbours in a plan. `local`: the mean of models that never met.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["dfl", "sfl", "cll", "local"] = Field(
        "dfl", description="dfl (peers), sfl (server), cll (all data in one place) or local."
    )
    local_steps: int = Field(1, ge=1, description="Local steps per round.")
    rule: str | None = Field(
        None, description="Weights: half, authors, push_sum, metropolis, fdla (default: what fits)."
    )
    robust: str | None = Field(
        None, description="clipping:radius=R, clipping:F, median:F, trimmed_mean:F or multi_krum:F."
    )
    evaluate: int = Field(20, ge=1, description="Rounds between evaluations of the mean model.")
    robots: int = Field(5, ge=1, description="Evaluations between those of every silo's own model.")
    settle: int = Field(0, ge=0, description="Rounds of mixing without training in the end.")


class ExperimentSettings(BaseModel):
    """What all runs share; larger numbers make the full experiment of the same command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(100, ge=1, description="The post's: 3000.")
    seeds: int = Field(3, ge=1, description="Runs of every kind, each with a seed of its own.")
    batch: int = Field(8, ge=2, description="Frames per local step; the post's: 32.")
    lr: float = Field(1e-3, ge=1e-9, description="Learning rate of Adam.")
    split: str = Field("environment", description="Shares of the silos: environment, sign, dirichlet:ALPHA or iid.")
    samples: int | None = Field(None, ge=1, description="At most so many training samples, evenly from all.")
    settle: int = Field(20, ge=0, description="Rounds of mixing without training in the end.")
    # The authors' value for Gazebo (docs/decisions/0010).
    compute_ms: float = Field(4.9, gt=0, description="One local step on a silo, ms (4.9: the authors' Gazebo).")
    evaluate: int = Field(10, ge=1, description="Rounds between evaluations of the mean model.")
