"""Nothing that a robot runs reports home."""

import os
import subprocess
import sys

import pytest

from edgeflock.runtime.bundle.bundle import default_bundle

RUN = """
import sys
from edgeflock.runtime.engines import open_engine
open_engine(sys.argv[1], sys.argv[2], "fp32")
"""


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino"])
def test_an_engine_leaves_no_identity_of_this_machine_to_report_with(engine, tmp_path):
    if engine == "openvino":
        pytest.importorskip("openvino")
    unset = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"HOME": str(tmp_path)}
    net = default_bundle() / "fadnet_fp32.onnx"
    subprocess.run([sys.executable, "-c", RUN, engine, str(net)], env=environment, check=True, timeout=300)
    assert not list(tmp_path.rglob("*"))
