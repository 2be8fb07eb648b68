"""`edgeflock doctor`: what this board has, what is missing, and the line that installs it.

Every check runs in an interpreter of its own, all at once: a package that hangs or crashes (a driver mismatch, a wheel
for another CPU) is one line of the report and never the end of it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeflock.runtime.board.facts import board_model, cpu_flags, cpu_model, installed_version

PREFIX = '{"what": '  # of a finding among whatever else a package prints
Status = Literal["ok", "absent", "missing", "warn", "bad"]
CHECK_TIMEOUT_S = 60
EGL_PACKAGES = "libegl1 libopengl0 libgl1-mesa-dri"  # what MuJoCo was seen to load, with Mesa's software renderer
RMEM_MAX = 4 * 1024 * 1024  # bytes that our DDS profile asks for, see Fast DDS in docs/robot.md


@dataclass
class Finding:
    """One line of the report.

    `absent` is hardware or software that nobody asked for; `missing` stops a part of edgeflock and has a `fix`;
    `warn` works badly; `bad` fails and makes the command exit with 1.
    """

    what: str
    status: Status
    detail: str
    fix: str | None = None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _import(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def check_board() -> Iterator[Finding]:
    """Python, operating system, board, processor."""
    import psutil

    python = platform.python_version()
    yield Finding("Python", "ok" if sys.version_info >= (3, 10) else "bad", f"{python} at {sys.prefix}")
    release = re.search(r'PRETTY_NAME="?([^"\n]+)', _text("/etc/os-release"))
    yield Finding("system", "ok", f"{release[1] if release else platform.system()}, kernel {platform.release()}")
    yield Finding("board", "ok", f"{board_model()} ({platform.machine()})")
    if l4t := _text("/etc/nv_tegra_release"):
        yield Finding("Jetson Linux", "ok", l4t.splitlines()[0].lstrip("# "))
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    yield Finding("processor", "ok", f"{cpu_model()}, {os.cpu_count()} cores, {memory}")
    if found := cpu_flags() & {"avx512_vnni", "avx_vnni", "asimddp", "i8mm"}:
        yield Finding("INT8 dot product", "ok", ", ".join(sorted(found)))
    else:
        note = "INT8 runs with session.x64quantprecision" if platform.machine() == "x86_64" else "INT8 runs"
        yield Finding("INT8 dot product", "absent", f"{note}, correct but without its speed")


def check_engines() -> Iterator[Finding]:
    """Inference engines: which can be used here, and why the others cannot."""
    import onnxruntime

    from edgeflock.runtime.engines import PRECISIONS, engine_problems

    providers = ", ".join(onnxruntime.get_available_providers())
    yield Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__}: {providers}")
    for name, problem in engine_problems().items():
        yield Finding(name, "absent" if problem else "ok", problem or f"usable, takes {', '.join(PRECISIONS[name])}")
    if root := os.environ.get("QNN_SDK_ROOT"):
        yield Finding("QNN SDK", "ok" if Path(root).is_dir() else "warn", root)


def check_ros() -> Iterator[Finding]:
    """ROS 2: where it comes from, its middleware, and the settings that decide whether images arrive."""
    rclpy = _import("rclpy")
    if rclpy is None:
        system = next(Path("/opt/ros").glob("*/setup.bash"), None)
        pip = 'pip install "edgeflock[ros]"' if sys.version_info[:2] == (3, 11) else "use Python 3.11 for its wheels"
        fix = f"source {system}" if system else f"{pip}   # on a robot: ROS 2 from apt"
        yield Finding("rclpy", "missing", "cannot be imported", fix)
        return
    wheels = installed_version("ros-jazzy-rclpy")
    origin = f"Jazzy from wheels, {wheels}" if wheels else f"{os.environ.get('ROS_DISTRO', 'unknown')} from the system"
    yield Finding("rclpy", "ok", f"{origin}, {Path(rclpy.__file__).parent}")
    if wheels and os.environ.get("AMENT_PREFIX_PATH", "").startswith("/opt/ros"):
        yield Finding("ROS 2 twice", "bad", "the wheels shadow /opt/ros", "pip uninstall ros-jazzy-rclpy ros-rclpy")
    yield Finding("middleware", "ok", rclpy.get_rmw_implementation_identifier())
    for package in ("sensor_msgs", "geometry_msgs", "nav_msgs", "diagnostic_msgs", "lifecycle_msgs", "rosgraph_msgs"):
        if _import(f"{package}.msg") is None:
            distro = os.environ.get("ROS_DISTRO", "jazzy")
            apt = f"sudo apt-get install -y ros-{distro}-{package.replace('_', '-')}"
            yield Finding(package, "missing", "cannot be imported", 'pip install "edgeflock[ros]"' if wheels else apt)
    profile = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE") or os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
    if profile:
        found = Path(profile).is_file()
        yield Finding("DDS profile", "ok" if found else "bad", profile if found else f"{profile} does not exist")
    else:
        note = "not set in this shell; edgeflock drive and the launch file set it for their nodes"
        yield Finding("DDS profile", "absent", note)
    buffer = int(_text("/proc/sys/net/core/rmem_max") or 0)
    if buffer >= RMEM_MAX:
        yield Finding("net.core.rmem_max", "ok", f"{buffer} bytes")
    else:
        fix = f"sudo sysctl -w net.core.rmem_max={RMEM_MAX}"
        yield Finding("net.core.rmem_max", "warn", f"{buffer} bytes: images between machines get lost", fix)


def check_cameras() -> Iterator[Finding]:
    """RealSense and video devices."""
    if installed_version("pyrealsense2") is None:
        yield Finding("librealsense", "missing", "not installed", 'pip install "edgeflock[realsense]"')
    else:
        from edgeflock.runtime.cameras.realsense import devices

        connected = ", ".join(devices()) or "no camera connected"
        yield Finding("librealsense", "ok", f"{installed_version('pyrealsense2')}: {connected}")
    found = sorted(Path("/sys/class/video4linux").glob("video*"))
    listed = ", ".join(f"/dev/{d.name} {_text(str(d / 'name'))}" for d in found)
    yield Finding("video devices", "ok" if found else "absent", listed or "none")


def check_simulator() -> Iterator[Finding]:
    """MuJoCo, and that its off-screen camera really renders."""
    version = installed_version("mujoco")
    if version is None:
        yield Finding("MuJoCo", "missing", "not installed", 'pip install "edgeflock[sim]"')
        return
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco

        model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        with mujoco.Renderer(model, 32, 32) as renderer:
            renderer.update_scene(data)
            seen = renderer.render().any()
    except Exception as e:  # PyOpenGL raises whatever it likes when libEGL is missing
        yield Finding("MuJoCo", "missing", f"{version}, cannot render: {e}", f"sudo apt-get install -y {EGL_PACKAGES}")
    else:
        yield Finding("MuJoCo", "ok" if seen else "bad", f"{version}, renders with {os.environ['MUJOCO_GL']}")


def check_extras() -> Iterator[Finding]:
    """What of each extra is installed."""
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in importlib.metadata.requires("edgeflock") or ()]
    for extra in sorted(importlib.metadata.metadata("edgeflock").get_all("Provides-Extra") or ()):
        wanted = [r for r in requirements if r.name != "edgeflock" and r.marker and r.marker.evaluate({"extra": extra})]
        lacking = []
        for r in wanted:
            version = installed_version(r.name)
            if version is None or not r.specifier.contains(version, prereleases=True):
                lacking.append(f"{r.name} ({version or 'not installed'}, needs {r.specifier or 'any'})")
        if not wanted:
            continue  # an extra made of extras, or one without a package for this Python
        if lacking:
            yield Finding(f"[{extra}]", "missing", ", ".join(lacking), f'pip install "edgeflock[{extra}]"')
        else:
            yield Finding(f"[{extra}]", "ok", f"{len(wanted)} packages")


def check_versions() -> Iterator[Finding]:
    """Installed versions that are known to fail here."""
    from edgeflock.runtime.board.known_bad import KNOWN_BAD, known_bad_here

    for entry, version in (found := known_bad_here()):
        yield Finding(f"{entry.package} {version}", "warn", entry.reason, entry.way_out)
    if not found:
        yield Finding("known bad versions", "ok", f"none of the {len(KNOWN_BAD)} known is here")


def check_bundle() -> Iterator[Finding]:
    """The bundles that come with edgeflock: files, signature, digest."""
    from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
    from edgeflock.runtime.errors import EdgeflockError

    for task in ("steering", "emotion", "registration"):
        try:
            bundle = Bundle.open(default_bundle(task))
        except EdgeflockError as e:
            yield Finding(f"{task} bundle", "bad", str(e), "pip install --force-reinstall --no-deps edgeflock")
        else:
            yield Finding(f"{task} bundle", "ok", f"{bundle.manifest.name}, verified, SHA-256 {bundle.digest}")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "board": check_board,
    "engines": check_engines,
    "ROS 2": check_ros,
    "cameras": check_cameras,
    "simulator": check_simulator,
    "extras": check_extras,
    "versions": check_versions,
    "bundle": check_bundle,
}


def run_check(area: str) -> list[Finding]:
    """Run one check in a fresh interpreter; a crash, a hang or an exception there is one more finding."""
    command = [sys.executable, "-m", "edgeflock.runtime.commands.doctor", area]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [Finding(area, "bad", f"the check did not end within {CHECK_TIMEOUT_S} s")]
    findings = [Finding(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith(PREFIX)]
    if done.returncode:
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        findings.append(Finding(area, "bad", f"the check ended with {reason}: {last}"))
    return findings


def diagnose() -> dict[str, list[Finding]]:
    """Findings by area, all checks side by side."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return dict(zip(CHECKS, pool.map(run_check, CHECKS), strict=True))


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this board has, what is missing, and the line that installs it."""
    found = diagnose()
    if as_json:
        typer.echo(json.dumps({area: [asdict(f) for f in findings] for area, findings in found.items()}, indent=2))
    else:
        _print(found)
    if any(f.status == "bad" for findings in found.values() for f in findings):
        raise typer.Exit(1)


def _print(found: dict[str, list[Finding]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    signs = {"ok": "[green]ok[/]", "absent": "[dim]-[/]", "missing": "[yellow]missing[/]", "warn": "[yellow]warn[/]"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for area, findings in found.items():
        for n, f in enumerate(findings):
            label = f"[bold]{area}[/]" if n == 0 else ""
            table.add_row(label, signs.get(f.status, "[bold red]bad[/]"), escape(f.what), escape(f.detail))
        table.add_section()
    console = Console()
    console.print(table)
    fixes = dict.fromkeys(f.fix for findings in found.values() for f in findings if f.fix)
    if fixes:
        console.print("\n[bold]To put it right:[/]")
        for fix in fixes:
            console.print(f"  {escape(fix)}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    for finding in CHECKS[sys.argv[1]]():
        print(json.dumps(asdict(finding)), flush=True)
