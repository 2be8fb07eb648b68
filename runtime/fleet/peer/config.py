"""Settings of a peer. Times are of its own clock; no two robots need the same."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from edgeflock.runtime.fleet.peer.codecs import Codec


class PeerConfig(BaseModel):
    """How a peer exchanges models. All robots of a run take the same `rounds`, `settle` and `rule`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(100, ge=1, description="rounds of training")
    settle: int = Field(0, ge=0, description="rounds of mixing alone in the end, so that the robots agree")
    rule: str | None = Field(None, description="weights, one of edgeflock.runtime.fleet.mixing.rules.RULES")
    robust: str | None = Field(None, description="instead of the weighted mean, see robust_rule()")
    codec: Codec = Field("fp32", description="how models travel: fp32, fp16, int8 or topk")
    keep: float = Field(0.1, gt=0, le=1, description="of topk: share of the weights in a message")
    snapshot_every: int = Field(20, ge=1, description="of topk: one model in so many goes whole")
    floor_s: float = Field(2.0, gt=0, description="shortest wait for a neighbour's model")
    ceiling_s: float = Field(30.0, gt=0, description="longest wait for a neighbour's model")
    mads: float = Field(6.0, gt=0, description="median absolute deviations above the median wait that are waited")
    beat_s: float = Field(1.0, gt=0, description="time between signs of life")
    ping_s: float = Field(10.0, ge=0, description="time between two measurements of the links; 0: none")
    silent_s: float = Field(8.0, gt=0, description="silence after which a robot counts as absent")
    join_s: float = Field(10.0, gt=0, description="longest wait, at the start, for the others' latest model")
    retry_s: float = Field(0.25, gt=0, description="first wait before a message is repeated")
    longest_retry_s: float = Field(4.0, gt=0, description="longest wait before a message is repeated")
    ttl_s: int = Field(600, ge=1, description="time to live of an offer, from its arrival")
    credit: int = Field(16, ge=2, le=1024, description="chunks of one model that may be under way")
    behind: int = Field(8, ge=1, description="rounds behind the others after which a robot skips ahead to them")
    norm_factor: float = Field(4.0, gt=1, description="a model so many times above or below the usual norm is refused")
    distance_factor: float = Field(10.0, gt=1, description="or so many times as far away as usual")

    @property
    def last(self) -> int:
        """Last round."""
        return self.rounds + self.settle

    def ns(self, name: str) -> int:
        """A setting in seconds as nanoseconds."""
        return round(getattr(self, name) * 1e9)
