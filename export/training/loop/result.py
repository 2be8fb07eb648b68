"""`result.json` of a training run, as an export reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from edgeflock.runtime.bundle.manifest import Training
from edgeflock.runtime.errors import InputError


class TrainingResult(Training):
    """What a training run says of itself: what a manifest keeps, and the history, which it does not."""

    history: list[dict[str, JsonValue]] = Field(default_factory=list)
    """Figures of each epoch."""

    @classmethod
    def read(cls, path: Path) -> TrainingResult:
        """Read a run's result.

        Raises
        ------
        InputError
            There is none at `path`, or it is not one.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: expected the result.json of a training run ({error}).") from None
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())
            raise InputError(f"{path}: expected the result.json of a training run; {problems}.") from None

    def for_manifest(self) -> Training:
        """Everything but the history."""
        return Training.model_validate(self.model_dump(exclude={"history"}))
