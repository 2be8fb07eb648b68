"""The folder of a training run: looked at before the data is read, and named in the command that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeflock.runtime.files import check_outputs
from edgeflock.runtime.options import next_command

WRITTEN = ("best.safetensors", "last.pt", "result.json")


def check_run_folder(out: Path, data: Iterable[Path | None], init: Path | None = None) -> None:
    """Refuse an --out that cannot be written, lies in the data, or whose weights are the start of this run.

    Raises
    ------
    InputError, FileError
        See `edgeflock.runtime.files.check_outputs`.
    """
    check_outputs([out / name for name in WRITTEN], [out], [init], data)


def export_command(
    task: str, out: Path, val: Iterable[Path | None], data: Iterable[Path | None], options: Iterable[str] = ()
) -> str:
    """The line that names the export of a finished run; FLEET.pem comes from `edgeflock bundle keygen`."""
    words: list[object] = ["--weights", out / WRITTEN[0]]
    words += [word for path in val if path for word in ("--data", path)]
    words += [word for path in data if path for word in ("--calib", path)]
    words += options
    return next_command("export", task, *words, "--training", out / WRITTEN[2], "--key", "FLEET.pem", "--out", "BUNDLE")


def registration_summary(out: Path, result: Mapping[str, Any], data: Sequence[Path], val: Sequence[Path] | None) -> str:
    """What a finished run of a registration net reached, and the line that exports it."""
    figures, size = result["figures"], ["--size", str(result["config"]["size"])]
    metric = "dice" if "dice" in figures else "correlation"
    share = f", the critic has {figures['critic_share']:.1%} of the gradient" if "critic_share" in figures else ""
    return (
        f"{out / WRITTEN[0]}: validation {metric} {figures[metric]:.4f} (epoch {figures['best_epoch']}), "
        f"without registration {figures['constant']:.4f}, folded voxels {figures['folded']:.2%}{share}\n"
        + export_command("registration", out, val or data, data if val else [], size)
    )
