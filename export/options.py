"""Options that `edgeflock export` has for every task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from edgeflock.calibration.ranges import Method
from edgeflock.runtime.bundle.manifest import Training

if TYPE_CHECKING:
    from edgeflock.export.recipe import Recipe


class ExportOptions(BaseModel):
    """What becomes of a net, whatever its task: where the bundle goes, who signs it, which forms it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path = Field(description="Folder of the bundle; an older bundle there is replaced.")
    key: Path = Field(description="Private key to sign with (`edgeflock bundle keygen`).")
    net: str | None = Field(None, description="Net that the weights must belong to; recognised anyway.")
    precision: tuple[str, ...] = Field(
        (), description="fp32, fp16, int8, int8-qnn or int8-trt; repeat for more, by default all."
    )
    default: str = Field("int8", description="Precision that the bundle is used with unless told otherwise.")
    method: Method | None = Field(
        None, description="How the ranges of INT8 are found; by default what the task fares best with."
    )
    training: Path | None = Field(None, description="result.json of the training run, for the manifest.")
    report: Path | None = Field(None, description="Folder of the gate's report; by default OUT-report.")

    @property
    def result(self) -> Training | None:
        """What the training run says of itself."""
        from edgeflock.export.training.loop.result import TrainingResult

        return TrainingResult.read(self.training).for_manifest() if self.training else None

    def export(self, recipe: Recipe) -> None:
        """Export by a recipe; errors as of `edgeflock.export.pipeline.export_bundle`."""
        from rich.console import Console

        from edgeflock.export.pipeline import PRECISIONS, export_bundle

        export_bundle(
            recipe,
            self.out,
            self.key,
            precisions=self.precision or PRECISIONS,
            method=self.method,
            report=self.report,
            console=Console(),
        )
