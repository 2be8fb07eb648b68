"""What the gate of each task allows; the options of `edgeflock export`, so nothing here imports torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SteeringLimits(_Limits):
    """What the gate allows a steering net."""

    max_rise: float = Field(0.02, ge=0, description="Gate: relative rise of the RMSE over fp32.")
    max_flips: float = Field(0.005, ge=0, description="Gate: share of frames steered to the other side.")
    max_ratio: float = Field(0.5, ge=0, description="Gate: RMSE as a share of the constant predictor's.")
    max_deviation: float = Field(0.1, ge=0, description="Gate: distance from fp32 on any frame, rad.")


class RegistrationLimits(_Limits):
    """What the gate allows a registration net; correlation takes the place of Dice where nothing is segmented."""

    max_drop: float = Field(0.01, ge=0, description="Gate: Dice lost to fp32, absolute.")
    max_folded: float = Field(0.005, ge=0, description="Gate: share of folded voxels above fp32's.")
    min_gain: float = Field(0.05, ge=0, description="Gate: Dice above no registration.")  # with none, none can be lost
    min_kept: float = Field(0.9, ge=0, description="Gate: part of fp32's gain over no registration that is left.")


class EmotionLimits(_Limits):
    """What the gate allows an emotion net."""

    max_drop: float = Field(0.01, ge=0, description="Gate: accuracy lost to fp32, absolute.")
    min_agreement: float = Field(0.99, ge=0, description="Gate: share of fp32's clear labels that stay.")
    max_distance: float = Field(0.02, ge=0, description="Gate: mean total variation distance from fp32's distribution.")
    # The best published net on NCAER-S is at 0.62 (46.91 % right, arXiv 2111.04129).
    max_ratio: float = Field(0.7, ge=0, description="Gate: errors as a share of always naming the most frequent one's.")


class ChoreographyLimits(_Limits):
    """What the gate allows a choreography net: whole dances out of the same noise, to songs that no training saw."""

    max_ratio: float = Field(0.1, ge=0, description="Gate: joints off fp32's dance, as a share of standing still's.")
    max_drop: float = Field(0.05, ge=0, description="Gate: MMC above chance lost to fp32, absolute.")
    max_change: float = Field(0.05, ge=0, description="Gate: relative change of the mean speed of all joints.")


class NetLimits(_Limits):
    """What the gate allows a net of one's own."""

    min_sqnr: float = Field(20.0, description="Gate: signal over quantisation noise of every output, dB.")
    min_cosine: float = Field(0.99, ge=0, le=1, description="Gate: mean cosine between fp32's outputs and these.")
    min_top1: float = Field(0.98, ge=0, le=1, description="Gate: share of fp32's first classes that stay.")
    max_drop: float = Field(0.01, ge=0, description="Gate: accuracy, or a score of your own, lost to fp32, absolute.")
    max_rise: float = Field(0.02, ge=0, description="Gate: relative rise of the RMSE over fp32.")
    max_ratio: float = Field(0.5, ge=0, description="Gate: error as a share of the best constant answer's.")
