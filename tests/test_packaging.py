"""The wheel is whole: installed apart, every module imports and the default bundle verifies."""

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")

ROOT = Path(__file__).parents[1]
ROOMS = {f"edgeflock/{room}": room for room in ("runtime", "calibration", "export")} | {
    init.parent.name: str(init.parent.relative_to(ROOT)) for init in ROOT.glob("ros2_ws/src/*/*/__init__.py")
}

IMPORT_ALL = """
import importlib.util, json, pkgutil, sys
names = []
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    names += [package, *(m.name for m in pkgutil.walk_packages(module.__path__, package + "."))]
if not importlib.util.find_spec("launch"):  # comes with ROS alone
    names.remove("edgeflock_ros.launching")
for name in names:
    where = importlib.import_module(name).__file__
    assert where.startswith(sys.prefix), where
print(json.dumps(names))
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tracked():
    """Files of the repository that git knows or would add."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory):
    """Built in a copy: a build folder left by an earlier build would put files into the wheel that are gone."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in tracked:
        if not name.startswith(("tests/", "docs/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with nothing but the wheel; its dependencies are found in the present one by path.

    A path file names only a folder, so the present environment's editable edgeflock stays out.
    """
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    run(sys.executable, "-m", "pip", "--python", home / "bin/python", "install", "-q", "--no-deps", "--no-index", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_every_file_of_the_rooms_is_in_the_wheel(wheel, tracked):
    """A forgotten folder, or data that no pattern names, would be missed on a robot only."""
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{package}/{name.removeprefix(f'{room}/')}"
        for package, room in ROOMS.items()
        for name in tracked
        if name.startswith(f"{room}/")
    }
    assert wanted - held == set()
    assert {name for name in held if ".dist-info/" not in name} - wanted == set()


def test_every_module_of_the_wheel_imports(environment, tmp_path):
    packages = [package.replace("/", ".") for package in ROOMS]
    names = json.loads(run(environment / "bin/python", "-c", IMPORT_ALL, *packages, cwd=tmp_path).splitlines()[-1])
    assert len(names) > 100 and {"edgeflock.runtime.cli", "edgeflock.export.nets.fadnet"} <= set(names)


def test_doctor_and_the_default_bundle_answer_from_the_wheel(environment, tmp_path):
    edgeflock = environment / "bin/edgeflock"
    assert run(edgeflock, "--version", cwd=tmp_path).startswith("edgeflock ")
    assert json.loads(run(edgeflock, "doctor", "--json", cwd=tmp_path))
    run(edgeflock, "bundle", "verify", cwd=tmp_path)
