"""A whole fleet that learns, on one machine or on Ray: real training, simulated time.

A run is a folder: `checkpoint.safetensors` has all that goes on after an interruption, `rounds.csv` a line per round,
`result.json` settings, data digests and figures, `average.safetensors` the mean model in the end.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgeflock.export.fleet.config import SimulationConfig
from edgeflock.export.fleet.event import CALM, Conditions, simulate
from edgeflock.export.fleet.workers import Job, Pool, Silos
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.files import check_same_run, in_order, sha256_of, sole_writer, write_atomically
from edgeflock.runtime.fleet.learner import LearningTask
from edgeflock.runtime.fleet.mixing.robust import robust_rule
from edgeflock.runtime.fleet.mixing.rules import Mixing
from edgeflock.runtime.fleet.plan.schedule import Plan

CHECKPOINT_S = 30.0


def clock_of(
    mode: str, plan: Plan | None, compute_ms: float, rounds: int, conditions: Conditions = CALM
) -> np.ndarray | None:
    """When the last silo has done each round, ms (rounds + 1,), by the measure `event`; None for `cll`.

    Where the data of all comes from, and how fast one machine is for all, nothing here says: so `cll` has no clock.
    """
    if mode == "cll":
        return None
    if plan is None:
        return compute_ms * max([1.0, *conditions.stragglers.values()]) * np.arange(rounds + 1)
    return simulate(plan, compute_ms, rounds, conditions).max(axis=1)


@dataclass
class _State:
    """What changes from round to round."""

    models: np.ndarray  # (n, d); what `Mixing.begin` made of them where silos mix
    past: dict[int, np.ndarray] = field(default_factory=dict)  # before mixing, by round
    round: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def simulate_learning(
    task: LearningTask,
    config: SimulationConfig,
    plan: Plan | None,
    rounds: int,
    out: Path,
    pool: Pool,
    *,
    clock_ms: np.ndarray | None = None,
    fresh: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Let a fleet learn; goes on where an interrupted run in `out` stopped, and further if `rounds` is now larger.

    In every round each silo takes local steps, then mixes by the plan (DPASGD). What is drawn depends on the task's
    seed, the silo and the round alone, so a run that was killed and resumed computes the same as one that was not.

    Parameters
    ----------
    task : LearningTask
    config : SimulationConfig
    plan : Plan, optional
        Who mixes with whom; of the modes `sfl` (a star) and `dfl`.
    rounds : int
        Rounds of training; those of `config.settle` come after.
    out : Path
        Folder of the run, made if missing.
    pool : Pool
        Where the silos train.
    clock_ms : ndarray (rounds + config.settle + 1,), optional
        When the last silo has done each round, for the log and the pictures (`clock_of`).
    fresh : bool
        Start anew even if `out` holds a run.
    command : str
        Command line, kept in the result.

    Returns
    -------
    dict
        As in `result.json`: `figures` with the metric of the mean model ("average") and of the silos' own models
        ("robots_mean", "best", "worst"), "trained" and, if asked for, "settled", and of answers without a net.

    Raises
    ------
    InputError
        Settings do not fit each other, `out` holds another run, or a silo's loss or model is NaN or infinite.
    DataError
        Data or checkpoint is broken.
    EngineError
        A worker ended.
    """
    return _Simulation(task, config, plan, rounds, Path(out), pool, clock_ms).run(fresh, command)


class _Simulation:
    def __init__(
        self,
        task: LearningTask,
        config: SimulationConfig,
        plan: Plan | None,
        rounds: int,
        out: Path,
        pool: Pool,
        clock_ms: np.ndarray | None,
    ) -> None:
        mixes = config.mode in ("sfl", "dfl")
        if mixes != (plan is not None):
            raise InputError(f"mode '{config.mode}' {'needs a plan' if mixes else 'mixes nothing, so it has no plan'}.")
        if plan is not None and plan.n != task.silos:
            raise InputError(f"the plan is for {plan.n} silos, the task deals its data to {task.silos}.")
        robust = robust_rule(config.robust) if config.robust else None
        self.mixing = Mixing(plan, config.rule, robust) if plan is not None else None
        if config.mode == "sfl" and self.mixing is not None and not self.mixing.by_server:
            raise InputError("mode 'sfl' has a server: pass the plan of a star with t = 1, and no other rule.")
        if clock_ms is not None and len(clock_ms) < rounds + config.settle + 1:
            raise InputError(f"the clock has {len(clock_ms) - 1} rounds, expected {rounds + config.settle}.")
        self.task, self.config, self.plan, self.rounds = task, config, plan, rounds
        self.out, self.pool, self.clock_ms = out, pool, clock_ms
        self.last = rounds + (config.settle if mixes else 0)

    def run(self, fresh: bool, command: str) -> dict[str, Any]:
        self.described = self.task.describe()
        training, validation = (self.described["data"][split]["sha256"] for split in ("train", "val"))
        if training == validation:
            raise InputError(
                "training and validation data are the same, so no figure would say how good a model is: name other "
                "data for one of --data and --val."
            )
        with sole_writer(self.out):
            checkpoint = self.out / "checkpoint.safetensors"
            if fresh:
                checkpoint.unlink(missing_ok=True)
                (self.out / "result.json").unlink(missing_ok=True)
            if (done := self._finished()) is not None:
                return self._clocked(done, command)
            central = self.config.mode == "cll"
            silos = Silos(self.task, self.pool, central)
            state = self._resumed(checkpoint, silos) if checkpoint.exists() else self._started(silos)
            with self._progress(state) as progress:
                began, saved = time.monotonic() - state.seconds, time.monotonic()
                while state.round < self.last:
                    self._round(state, silos)
                    state.seconds = time.monotonic() - began
                    progress.update(progress.task_ids[0], completed=state.round, figures=self._shown(state))
                    if state.round == self.last or time.monotonic() - saved > CHECKPOINT_S:
                        self._save(checkpoint, state, silos)
                        saved = time.monotonic()
            return self._result(state, silos, command)

    def _started(self, silos: Silos) -> _State:
        models = np.tile(self.task.start(), (silos.n, 1))
        state = _State(models if self.mixing is None else self.mixing.begin(models))
        state.rows.append({"round": 0, "loss": None})
        if self.task.batch_norm != "local":  # whose statistics nobody has trained yet
            state.rows[0] |= self._figures(state, silos)
        return state

    def _round(self, state: _State, silos: Silos) -> None:
        k = state.round + 1
        models = self._models(state)
        losses = np.full(silos.n, np.nan)
        if k <= self.rounds:
            trained, losses = silos.train(models, k, self.config.local_steps)
            self._check(k, trained, losses)
            state.models = trained if self.mixing is None else self.mixing.trained(state.models, models, trained)
        if self.mixing is not None:
            state.past[k] = state.models
            state.models = self.mixing.mix_all(k, state.past)
            needed = self.mixing.still_needed(k)
            state.past = {r: models for r, models in state.past.items() if r in needed}
        state.round = k
        row = {"round": k, "loss": float(losses.mean()) if k <= self.rounds else None}
        if k % self.config.evaluate == 0 or k in (self.rounds, self.last):
            row |= self._figures(state, silos)
        state.rows.append(row)

    def _check(self, k: int, trained: np.ndarray, losses: np.ndarray) -> None:
        broken = ~(np.isfinite(losses) & np.isfinite(trained).all(axis=1))
        if broken.any():
            at = int(broken.argmax())
            name = self.plan.roster[at] if self.plan is not None else f"silo {at}"
            raise InputError(
                f"training broke at {name} in round {k}: its loss is {losses[at]}. Start anew (--fresh, or another "
                f"--out) with a learning rate below {self.task.lr:g}, or look at its data."
            )

    def _figures(self, state: _State, silos: Silos) -> dict[str, Any]:
        """Metric of the mean model and, when it is their turn, of every silo's; how far the silos are apart."""
        models = self._models(state)
        average = self._average(state)
        spread = float(np.sqrt(((models - average) ** 2).sum(axis=1).mean()) / np.linalg.norm(average))
        alike = spread < 1e-6
        theirs = self._robots_due(state) and not alike
        # Under the policy `local` the mean has no statistics of its own, and the first silo's stand in for them.
        jobs: list[Job] = [(0, average)] + ([(i, model) for i, model in enumerate(models)] if theirs else [])
        values = [figures[self.task.metric] for figures in silos.evaluate(jobs)]
        found: dict[str, Any] = {"average": values[0], "disagreement": spread}
        if theirs:
            found["robots"] = values[1:]
        elif alike:
            found["robots"] = values[:1] * silos.n
        return found

    def _models(self, state: _State) -> np.ndarray:
        return state.models if self.mixing is None else self.mixing.model(state.models)

    def _average(self, state: _State) -> np.ndarray:
        return state.models.mean(axis=0) if self.mixing is None else self.mixing.average(state.models)

    def _robots_due(self, state: _State) -> bool:
        k = state.round
        return k in (self.rounds, self.last) or k % (self.config.evaluate * self.config.robots) == 0

    def _progress(self, state: _State) -> Progress:
        progress = Progress(
            TextColumn(f"{self.config.mode} {self.task.net}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        progress.add_task("", total=self.last, completed=state.round, figures="")
        return progress

    def _shown(self, state: _State) -> str:
        loss = state.rows[-1]["loss"]
        parts = [f"loss {loss:.5f}"] if loss is not None else ["settling"]
        if latest := next((row["average"] for row in reversed(state.rows) if "average" in row), None):
            parts.append(f"{self.task.metric} {latest:.4f}")
        if self.clock_ms is not None:
            parts.append(f"clock {self.clock_ms[state.round] / 1e3:.1f} s")
        return "  ".join(parts)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must agree for a run to be continued; beside it only the number of rounds may grow."""
        settings = self.task.model_dump(mode="json", exclude={"data", "val", "init"})
        digests = {split: one["sha256"] for split, one in self.described["data"].items()}
        init = sha256_of(self.task.init) if self.task.init else None
        plan = None
        if self.plan is not None:  # delays change the clock alone
            edges = np.ascontiguousarray(np.column_stack([self.plan.edges, self.plan.periods]), np.int64)
            plan = {"base": self.plan.base, "t": self.plan.t, "edges": hashlib.sha256(edges.tobytes()).hexdigest()}
        return {"task": type(self.task).__name__, **settings, **self.config.model_dump(), "plan": plan} | {
            "data": digests,
            "init": init,
        }

    def _finished(self) -> dict[str, Any] | None:
        """The result of a run that is complete, so that no worker reads data for nothing."""
        path = self.out / "result.json"
        if not path.exists():
            return None
        try:
            result = json.loads(path.read_text())
            check_same_run(path, result["identity"], self.identity)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not the result of a simulation ({error}); pass --fresh to replace it.") from error
        return result if result["rounds"] == self.rounds else None

    def _clocked(self, done: dict[str, Any], command: str) -> dict[str, Any]:
        """A finished run by the clock that is asked for now: what it learnt does not depend on that."""
        clock = self._clock_ms()
        if done["clock_ms"] == clock:
            return done
        done |= {"clock_ms": clock, "command": command, "plan": self._plan()}
        write_atomically(self.out / "result.json", json.dumps(done, indent=1) + "\n")
        self._log(done["rows"])
        return done

    def _clock_ms(self) -> list[float] | None:
        return None if self.clock_ms is None else [round(float(c), 3) for c in self.clock_ms[: self.last + 1]]

    def _plan(self) -> dict[str, Any] | None:
        return None if self.plan is None else {"base": self.plan.base, "t": self.plan.t, "hash": self.plan.hash}

    def _save(self, path: Path, state: _State, silos: Silos) -> None:
        tensors = {"models": state.models} | {f"past.{k}": models for k, models in state.past.items()}
        tensors |= {f"silo.{name}": value for name, value in silos.state().items()}
        kept = {"round": state.round, "rounds": self.rounds, "seconds": state.seconds, "rows": state.rows}
        kept["identity"] = self.identity
        write_atomically(path, save(tensors, {"simulation": json.dumps(kept)}))
        self._log(state.rows)

    def _resumed(self, path: Path, silos: Silos) -> _State:
        try:
            with safe_open(path, framework="np") as file:
                kept = json.loads((file.metadata() or {})["simulation"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise DataError(f"{path}: no checkpoint of a simulation ({error}); pass --fresh to replace it.") from error
        check_same_run(path, kept["identity"], self.identity)
        if kept["round"] > self.rounds != kept["rounds"]:
            raise InputError(
                f"{path} is at round {kept['round']} of a run of {kept['rounds']}, this one is of {self.rounds}: pass "
                "--rounds of at least what is done (settled rounds cannot be trained on), another --out, or --fresh."
            )
        silos.restore({name[5:]: value for name, value in tensors.items() if name.startswith("silo.")})
        past = {int(name[5:]): value for name, value in tensors.items() if name.startswith("past.")}
        return _State(tensors["models"], past, kept["round"], kept["seconds"], kept["rows"])

    def _log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        metric = self.task.metric
        writer.writerow(["round", "clock_ms", "loss", f"average_{metric}", f"robots_{metric}", f"worst_{metric}"])
        worst = max if self.task.best == "lowest" else min
        for row in rows:
            clock = "" if self.clock_ms is None else f"{self.clock_ms[row['round']]:.3f}"
            robots = row.get("robots")
            cells = (row["loss"], row.get("average"), robots and np.mean(robots), robots and worst(robots))
            writer.writerow([row["round"], clock, *("" if c is None else f"{c:.6g}" for c in cells)])
        write_atomically(self.out / "rounds.csv", text.getvalue().encode())

    def _result(self, state: _State, silos: Silos, command: str) -> dict[str, Any]:
        """Write and return `result.json`; write the mean model."""
        metadata = {"net": self.task.net, "round": str(state.round), "of": "the mean of a fleet's models"}
        average = save(silos.weights(self._average(state)), metadata)
        write_atomically(self.out / "average.safetensors", in_order(average))
        rows = {row["round"]: row for row in state.rows if "robots" in row}
        figures = {"trained": self._summary(rows[self.rounds])}
        if self.last > self.rounds:
            figures["settled"] = self._summary(rows[self.last])
        result = {
            "command": command,
            "mode": self.config.mode,
            "rounds": self.rounds,
            "metric": {"name": self.task.metric, "best": self.task.best, "unit": self.task.unit},
            "figures": {**figures, "baselines": self.described["baselines"], "wall_s": round(state.seconds, 1)},
            "plan": self._plan(),
            "clock_ms": self._clock_ms(),
            "identity": self.identity,
            "data": self.described["data"],
            "shares": self.described["shares"],
            "rows": state.rows,
            "versions": {name: version(name) for name in ("edgeflock", "numpy")},
        }
        write_atomically(self.out / "result.json", json.dumps(result, indent=1) + "\n")
        return result

    def _summary(self, row: Mapping[str, Any]) -> dict[str, float]:
        robots = row["robots"]
        order = sorted(robots, reverse=self.task.best == "highest")
        return {"average": row["average"], "robots_mean": float(np.mean(robots)), "best": order[0], "worst": order[-1]}
