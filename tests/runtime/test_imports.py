"""The robot's side imports without torch and without the workstation's side."""

import json
import subprocess
import sys

SCRIPT = """
import importlib, json, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "mujoco", "rclpy") or name.startswith("edgeflock.export"):
            raise ModuleNotFoundError(f"{name} is out of bounds for edgeflock.runtime", name=name)

sys.meta_path.insert(0, Wall())
import edgeflock.runtime
names = [m.name for m in pkgutil.walk_packages(edgeflock.runtime.__path__, "edgeflock.runtime.")]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The page of a fleet: `fleet watch` alone opens it, behind `needs`.
        watch = name.startswith("edgeflock.runtime.fleet.watch.")
        if not watch or error.name.split(".")[0] not in ("jinja2", "prometheus_client", "starlette"):
            raise
print(json.dumps(names))
"""


def test_runtime_needs_neither_torch_nor_the_export_side():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout)
    assert {"edgeflock.runtime.bundle.bundle", "edgeflock.runtime.tasks.steering", "edgeflock.runtime.cli"} <= set(
        names
    )


def test_the_wall_holds():
    wall = SCRIPT[: SCRIPT.index("import edgeflock.runtime")]
    done = subprocess.run([sys.executable, "-c", wall + "import torch"], capture_output=True, text=True)
    assert done.returncode == 1 and "out of bounds" in done.stderr
