"""Calibration runs on the robot: neither torch nor the workstation's side is needed to import it."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "matplotlib") or name.startswith("edgeflock.export"):
            raise ModuleNotFoundError(f"{name} is out of bounds for edgeflock.calibration", name=name)

sys.meta_path.insert(0, Wall())
import edgeflock.calibration
for module in pkgutil.walk_packages(edgeflock.calibration.__path__, "edgeflock.calibration."):
    importlib.import_module(module.name)
"""


def test_calibration_needs_neither_torch_nor_the_export_side():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
