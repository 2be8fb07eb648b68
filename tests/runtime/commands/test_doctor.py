"""`edgeflock doctor`: says what is there and what installs the rest, and outlives whatever it looks at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeflock.runtime.board.known_bad import KNOWN_BAD, known_bad_here
from edgeflock.runtime.commands import doctor
from edgeflock.runtime.commands.doctor import CHECKS, Finding, run_check
from edgeflock.runtime.engines import engine_problems


def by_name(findings):
    return {f.what: f for f in findings}


def module(folder: Path, name: str, source: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)


@pytest.fixture
def ahead(tmp_path, monkeypatch):
    """A folder that the checks' interpreters import from first."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return tmp_path


def test_describes_this_machine():
    found = by_name(run_check("board"))
    assert found["Python"].detail.startswith(".".join(map(str, sys.version_info[:3])))
    assert os.uname().machine in found["board"].detail
    assert f"{os.cpu_count()} cores" in found["processor"].detail
    assert all(f.status in ("ok", "absent") for f in found.values())


def test_says_which_engines_can_be_used_and_why_the_others_cannot():
    found = by_name(run_check("engines"))
    assert "CPUExecutionProvider" in found["ONNX Runtime"].detail
    assert found["onnxruntime-cpu"].status == "ok" and "int8" in found["onnxruntime-cpu"].detail
    for name, problem in engine_problems().items():
        assert found[name].status == ("absent" if problem else "ok")
        assert problem is None or found[name].detail == problem


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise OSError('libcublas.so.12: cannot open')", "libcublas.so.12"),
        ("import sys; print('noise'); sys.exit(7)", "code 7"),
    ],
    ids=["crash", "exception", "exit"],
)
def test_a_broken_package_is_one_line_of_the_report(ahead, source, says):
    module(ahead, "onnxruntime", source)
    (finding,) = run_check("engines")
    assert finding.status == "bad"
    assert says in finding.detail


def test_a_check_that_hangs_is_given_up(ahead, monkeypatch):
    module(ahead, "onnxruntime", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "CHECK_TIMEOUT_S", 1)
    (finding,) = run_check("engines")
    assert (finding.status, "within 1 s" in finding.detail) == ("bad", True)


def test_what_was_found_before_a_crash_is_kept(ahead):
    module(ahead, "psutil", "raise ImportError('no psutil')")
    assert [f.status for f in run_check("board")] == ["bad"]
    module(ahead, "psutil", "def virtual_memory(): raise RuntimeError('no /proc')")
    found = run_check("board")
    assert [f.what for f in found][:3] == ["Python", "system", "board"]
    assert found[-1].status == "bad" and "no /proc" in found[-1].detail


def test_missing_ros_comes_with_the_line_that_installs_it(ahead):
    module(ahead, "rclpy", "raise ImportError('no rclpy')")
    (finding,) = run_check("ROS 2")
    assert finding.status == "missing"
    wheels = 'pip install "edgeflock[ros]"' if sys.version_info[:2] == (3, 11) else "use Python 3.11"
    assert wheels in finding.fix or "source /opt/ros" in finding.fix


def test_missing_egl_comes_with_the_apt_line(ahead):
    pytest.importorskip("mujoco")
    module(ahead, "mujoco", "class MjModel:\n  @staticmethod\n  def from_xml_string(s): raise AttributeError('no EGL')")
    (finding,) = run_check("simulator")
    assert finding.status == "missing"
    assert finding.fix == "sudo apt-get install -y libegl1 libopengl0 libgl1-mesa-dri"


def test_a_dds_profile_that_does_not_exist_is_bad(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/nowhere/shm.xml")
    found = by_name(run_check("ROS 2"))
    assert found["DDS profile"].status == "bad"
    assert found["middleware"].detail.startswith("rmw_")


def test_an_extra_that_lacks_a_package_names_it_and_the_line(monkeypatch):
    from importlib import metadata

    real = metadata.version

    def version(name):
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name == "jinja2" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = by_name(CHECKS["extras"]())
    assert found["[report]"].status == "missing"
    assert "matplotlib (not installed" in found["[report]"].detail and "jinja2 (1.0, needs" in found["[report]"].detail
    assert found["[report]"].fix == 'pip install "edgeflock[report]"'


# ---- known bad versions


@pytest.mark.parametrize(
    ("installed", "board", "bad"),
    [
        ({"opencv-python-headless": "5.0.0.93"}, "", ["opencv-python-headless"]),
        ({"opencv-python-headless": "4.14.0.94"}, "", []),
        ({"tensorrt": "10.2.0"}, "", ["tensorrt"]),
        ({"tensorrt": "10.3.0"}, "NVIDIA Jetson Orin Nano Developer Kit", ["tensorrt"]),
        ({"tensorrt": "8.2.1"}, "NVIDIA Jetson Nano Developer Kit", ["tensorrt"]),
        ({"tensorrt": "8.5.2"}, "NVIDIA Jetson AGX Xavier", []),
        ({"onnxruntime-qnn": "2.3.0", "onnxruntime": "1.31.1"}, "", ["onnxruntime-qnn"]),
        ({"onnxruntime-qnn": "2.3.0", "onnxruntime": "1.24.2"}, "", []),
        ({"onnxruntime-qnn": "2.7.0"}, "", ["onnxruntime-qnn"]),
        ({"setuptools": "80.1"}, "", []),
        ({"setuptools": "80.1", "colcon-core": "0.21.3"}, "", ["setuptools"]),
        ({"nvidia-modelopt": "0.47.0"}, "NVIDIA Jetson AGX Orin", ["nvidia-modelopt"]),
        ({"nvidia-modelopt": "0.47.0"}, "x86_64", []),
    ],
)
def test_known_bad_versions_are_found_where_they_apply(installed, board, bad):
    assert [entry.package for entry, _ in known_bad_here(installed.get, board)] == bad


def test_every_known_bad_entry_says_why_and_the_way_out():
    for entry in KNOWN_BAD:
        assert len(entry.reason) > 10 and len(entry.way_out) > 10, entry


# ---- the command


def test_the_command_prints_json_and_fails_only_for_what_is_bad():
    done = subprocess.run(
        [sys.executable, "-m", "edgeflock.runtime.cli", "doctor", "--json"], capture_output=True, text=True
    )
    report = json.loads(done.stdout)
    assert list(report) == list(CHECKS)
    findings = [Finding(**f) for area in report.values() for f in area]
    assert done.returncode == int(any(f.status == "bad" for f in findings))
    assert all(f.fix for f in findings if f.status == "missing")
    assert {"steering bundle", "emotion bundle", "registration bundle"} <= by_name(findings).keys()


def test_the_table_ends_with_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "run_check", lambda area: [Finding(area, "missing", "gone", f"install {area}")])
    doctor.doctor(as_json=False)
    printed = capsys.readouterr().out
    assert "To put it right" in printed
    assert all(f"install {area}" in printed for area in CHECKS)
