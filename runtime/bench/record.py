"""The record of a benchmark: one JSON file per board and net, a cell for each engine, precision, scope and mode.

docs/benchmark.md says what each field means. `schema_version` counts up when a field changes its meaning or goes. The
JSON schema beside the records is written by ``python -m edgeflock.runtime.bench.record
docs/perf/schema/benchmark.json``, and a test holds it to these classes.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import parse_json, write_atomically

SCHEMA_VERSION = 1

Scope = Literal["net", "task", "chain"]
Mode = Literal["back-to-back", "paced", "max-throughput"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BoardRecord(_Strict):
    """The machine."""

    name: str
    """What reports call it: the model, or what `--board` said."""
    model: str
    processor: str
    cores: int
    memory_gib: float
    architecture: str
    system: str
    kernel: str
    jetson_linux: str | None = None
    versions: dict[str, str]
    """Python, edgeflock, numpy, OpenCV and every engine that is installed."""


class BoardState(_Strict):
    """What the board did at one moment; empty where it does not say."""

    clocks_mhz: dict[str, float]
    governors: list[str]
    power_mode: str | None
    temperatures_c: dict[str, float]
    load_1min: float
    busy_percent: float
    """CPU time taken on this machine over the last 0.3 s, all cores = 100."""


class Rail(_Strict):
    """Power of one rail while the cell was measured."""

    mean_w: float
    max_w: float
    samples: int
    """1 for RAPL: its energy counter was read before and after."""


class WarmUpRecord(_Strict):
    """How the runs before the measured ones went."""

    runs: int
    seconds: float
    steady: bool
    """False: the time per run was still changing when the time for it was up."""


class GateFigure(_Strict):
    """What the gate measured of the precision on held-out samples, as the bundle's manifest says."""

    metric: str
    unit: str
    value: float
    fp32: float


class TrialRecord(_Strict):
    """One rate that the search for the throughput tried."""

    rate_hz: float
    sustained: bool
    grown_ms: float


class Key(NamedTuple):
    """What makes two cells comparable."""

    net: str
    board: str
    engine: str
    precision: str
    threads: int
    scope: str
    mode: str
    rate_hz: float | None
    beside: str | None = None

    def __str__(self) -> str:
        return f"{self.net} on {self.board}, {self.label}"

    @property
    def label(self) -> str:
        """Without net and board."""
        return f"{self.unit}, {self.load}"

    @property
    def unit(self) -> str:
        """What computes."""
        return f"{self.engine} {self.precision}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def load(self) -> str:
        """What is measured, and how frames are offered."""
        pace = f" {self.rate_hz:g} Hz" if self.rate_hz else ""
        return f"{self.scope}, {self.mode}{pace}" + (f", beside `{self.beside}`" if self.beside else "")


class _Cell(_Strict):
    net: str
    engine: str
    precision: str
    threads: int
    scope: Scope
    mode: Mode
    rate_hz: float | None = None
    """Of the paced mode."""
    beside: str | None = None
    """Command that ran on the same machine meanwhile."""

    def key(self, board: str) -> Key:
        """The cell's place in a comparison."""
        what = self.net, board, self.engine, self.precision
        return Key(*what, self.threads, self.scope, self.mode, self.rate_hz, self.beside)


class Missing(_Cell):
    """A cell that was asked for and could not be measured."""

    kind: Literal["missing"] = "missing"
    reason: str = Field(min_length=1)


class Measured(_Cell):
    """One measured cell."""

    kind: Literal["measured"] = "measured"
    created: str = Field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    bundle: str | None
    bundle_sha256: str | None
    net_sha256: str | None
    """Of the ONNX file; null in scope chain, where the node chose it."""
    input_sha256: str
    """Of what was fed."""
    engine_version: str
    gate: GateFigure | None = None
    """Null where the gate did not judge this precision, or an older edgeflock measured."""
    placement: dict[str, int]
    """Nodes of the graph by where they run; empty where the engine does not tell."""
    warm_up: WarmUpRecord
    duration_s: float
    frames: int
    dropped: int
    """Slots without an answer: paced, the frame before was still being answered."""
    late_starts: int
    """Frames begun more than 1 ms after their slot: an earlier frame, or the machine woke up late."""
    fps: float
    """Frames answered per second of this load; the throughput only in mode max-throughput."""
    latency: Latency
    """From the begin of the work on a frame to its answer."""
    response: Latency | None
    """From the slot of a frame to its answer, waiting included; null back to back."""
    trials: list[TrialRecord] = []
    """What the search for the throughput tried."""
    harness_ms: float | None
    """Median of the same loop around a net that does nothing, in the same engine; not subtracted from anything."""
    cpu_ms_per_frame: float | None
    """CPU time of the process, all its threads and the harness included."""
    peak_rss_mib: float | None
    """Largest memory of the process while the cell was measured, engine and bundle included."""
    before: BoardState
    after: BoardState
    peak_c: dict[str, float]
    """Hottest sample of each sensor that was sampled meanwhile."""
    throttling: dict[str, int]
    """Events while the cell was measured, and states that were on after it; empty is good or unknown."""
    power: dict[str, Rail]


Cell = Annotated[Union[Measured, Missing], Field(discriminator="kind")]  # noqa: UP007  (pydantic wants the Union)


class BenchFile(_Strict):
    """What one `edgeflock bench run` measured."""

    schema_version: Literal[1] = 1
    edgeflock: str
    commit: str | None
    """Of the checkout that was run; null for an installed package."""
    command: str
    board: BoardRecord
    cells: list[Cell]

    def write(self, path: Path) -> None:
        """Write the JSON, making the folder it lies in."""
        write_atomically(path, compact(self.model_dump_json(indent=1)) + "\n")

    @classmethod
    def read(cls, path: Path) -> BenchFile:
        """Read and check a file.

        Raises
        ------
        DataError
            It is not there, not a record, or of another schema version.
        """
        try:
            content = parse_json(path.read_bytes())
            version = content.get("schema_version")
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: expected a record of `edgeflock bench run`, got {error}.") from error
        if version != SCHEMA_VERSION:
            raise DataError(
                f"{path}: expected schema_version {SCHEMA_VERSION}, got {version}. A newer one needs a newer "
                "edgeflock; a file without it is not a record of `edgeflock bench run`."
            )
        try:
            return cls.model_validate_json(json.dumps(content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{path}: {where}: {first['msg']}. Measure again with `edgeflock bench run`.") from error


def read_all(paths: list[Path]) -> list[BenchFile]:
    """Records of files, and of every *.json of folders.

    Raises
    ------
    DataError
        A file is not a record, or there is none.
    """
    files = [file for path in paths for file in (sorted(path.glob("[!.]*.json")) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"No record in {', '.join(map(str, paths))}. Make one: edgeflock bench run --out FOLDER")
    return [BenchFile.read(file) for file in files]


def compact(text: str) -> str:
    """The JSON with every list of numbers in one line, so that a histogram is a line of a diff and not two hundred."""
    return re.sub(r"\[[-\d\s.,]+\]", lambda found: re.sub(r"\s+", "", found[0]), text)


def schema() -> str:
    """The JSON schema of a record file."""
    return json.dumps(BenchFile.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema(), encoding="utf-8")
