"""Records of cells, built from latencies, for what reads records."""

import numpy as np
import pytest

from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.record import BenchFile, BoardRecord, BoardState, Measured, Missing, WarmUpRecord

STATE = BoardState(
    clocks_mhz={"cpu0": 2600.0},
    governors=["performance"],
    power_mode=None,
    temperatures_c={"cpu": 41.5},
    load_1min=0.1,
    busy_percent=1.0,
)


@pytest.fixture
def cell():
    """``cell(ms, **fields)``: a measured cell whose latencies are log-normal around `ms`, 1000 of them."""

    def make(ms, samples=1000, **fields):
        ns = (np.random.default_rng(0).lognormal(0, 0.1, samples) * ms * 1e6).astype(np.int64)
        known = {
            "net": "fadnet",
            "engine": "onnxruntime-cpu",
            "precision": "int8",
            "threads": 1,
            "scope": "net",
            "mode": "back-to-back",
            "bundle": "steering-fadnet",
            "bundle_sha256": "0" * 64,
            "net_sha256": "1" * 64,
            "input_sha256": "2" * 64,
            "engine_version": "1.31.1",
            "placement": {"CPUExecutionProvider": 40},
            "warm_up": WarmUpRecord(runs=100, seconds=0.4, steady=True),
            "duration_s": 10.0,
            "frames": samples,
            "dropped": 0,
            "late_starts": 0,
            "fps": 1000 / ms,
            "latency": Latency.of(ns),
            "response": None,
            "harness_ms": 0.003,
            "cpu_ms_per_frame": ms,
            "peak_rss_mib": 120.0,
            "before": STATE,
            "after": STATE,
            "peak_c": {},
            "throttling": {},
            "power": {},
        }
        return Measured(**(known | fields))

    return make


@pytest.fixture
def missing():
    """``missing(reason, **fields)``: a cell that was not measured."""

    def make(reason, **fields):
        known = {"net": "fadnet", "engine": "tensorrt", "precision": "int8-trt", "threads": 1, "scope": "net"}
        return Missing(**(known | {"mode": "back-to-back"} | fields), reason=reason)

    return make


@pytest.fixture
def record():
    """``record(*cells, board="desk")``: a file of them."""

    def make(*cells, board="desk"):
        machine = BoardRecord(
            name=board,
            model="x86_64",
            processor="AMD EPYC",
            cores=2,
            memory_gib=23.0,
            architecture="x86_64",
            system="Debian 12",
            kernel="6.1",
            versions={"python": "3.11.7", "onnxruntime": "1.31.1"},
        )
        return BenchFile(
            edgeflock="0.1.0", commit=None, command="edgeflock bench run", board=machine, cells=list(cells)
        )

    return make
