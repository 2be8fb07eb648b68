"""`edgeflock drive`: the nodes of the launch file as processes, a drive, and its report.

The nodes run on loopback in a domain and a namespace of their own, so that drives side by side, and a robot in the same
network, never hear each other: nothing that this command does moves a real robot. `fadnet_nav.launch.py` does that.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field

from edgeflock.runtime.bundle.bundle import Bundle, default_bundle, read_manifest
from edgeflock.runtime.engines import check_engine
from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.files import check_outputs, left_over
from edgeflock.runtime.model_options import Fields, model_options
from edgeflock.runtime.mount import Mount, read_mount
from edgeflock.runtime.options import Keys
from edgeflock.runtime.prepare.frame import FramePreprocess
from edgeflock.runtime.prepare.image import ImagePreprocess, preparation
from edgeflock_ros.environment import check_environment
from fadnet_sim.scene import Kind

if TYPE_CHECKING:
    from rich.console import Console

    from edgeflock_lab.drive_record import DriveRecord
    from edgeflock_lab.monitor import Monitor
    from edgeflock_lab.supervisor import Supervisor
    from fadnet_sim.scene import World

START_TIMEOUT_S = 240.0  # of a machine that does much else; a node that died is noticed at once
LISTENERS = 2  # the monitor, and of images the steering, of steering the guard
LAST_SEED = 2**31 - 1  # a parameter of ROS holds 64 bits; of more its YAML makes a float
SETTLE_S = 0.5  # wall time for the answers to the last frames


class DriveOptions(BaseModel):
    """What to drive with; the options of the command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path
    world: Kind = Field("indoor", description="Kind of world.")
    seed: int = Field(2, ge=0, le=LAST_SEED, description="The world's seed; even ones were not trained on.")
    duration: float = Field(30.0, ge=0.5, description="Driving time, s; of a recording: at most.")
    source: str = Field("sim", description="sim, realsense, or PATH: recording, video, pictures, /dev/video0")
    image_topic: str | None = Field(None, description="Of the images, where a bag holds several.")
    depth_topic: str | None = Field(None, description="Of the depth that belongs to them, in a bag.")
    precision: str | None = Field(None, description="Of the net (default: what `edgeflock tune` or the bundle chose).")
    engine: str | None = Field(None, description="To run the net (default: what `edgeflock tune` chose).")
    bundle: Path | None = Field(None, description="Bundle to steer by (default: edgeflock's own)")
    keys: tuple[Path, ...] = ()
    json_file: Path | None = None
    lockstep: bool = False
    speed: float = Field(1.0, ge=0.05, le=10, description="Cruising speed, m/s.")
    fps: int = Field(30, ge=1, le=240, description="Frames per second (sim, live camera).")
    width: int = 640
    height: int = 480
    camera_height: float | None = Field(None, ge=0.02, le=4, description="Of the simulated camera above the ground, m.")
    camera_pitch: float | None = Field(None, ge=-60, le=80, description="Of the simulated camera, degrees down.")
    camera_fov: float | None = Field(
        None, ge=10, le=150, description="Of the simulated camera, degrees from top to bottom."
    )
    mount: Path | None = None
    as_is: bool = False

    @property
    def simulated(self) -> bool:
        """Whether there is a world to drive in, or only a camera to look through."""
        return self.source == "sim"


CAMERA = ("source", "image_topic", "depth_topic", "fps")
NET = ("precision", "engine", "bundle")
WORN = ("camera_height", "camera_pitch", "camera_fov")


@model_options
def drive(
    given: Annotated[
        dict[str, Any], Fields("world", "seed", "duration", *CAMERA, *NET, "speed", *WORN, of=DriveOptions)
    ],
    key: Keys = None,
    lockstep: Annotated[bool, typer.Option("--lockstep", help="Simulated time waits for every command.")] = False,
    size: Annotated[str, typer.Option(help="Of the image, px (sim, live camera).")] = "640x480",
    mount: Annotated[
        Path | None, typer.Option(help="Of the real camera: what `edgeflock calibrate mount` wrote.")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Show the net the frames as they are, not in its trained camera's view.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the record to this file as well.")] = None,
    out: Annotated[Path | None, typer.Option(help="Report folder (default: drive-<time>)")] = None,
) -> None:
    """Let a robot steer itself by its camera, and report how it went. Ends with 3 after a collision."""
    from rich.console import Console

    width, height = parse_size(size)
    options = DriveOptions(
        out=out or Path(time.strftime("drive-%Y%m%d-%H%M%S")),
        keys=tuple(key or ()),
        json_file=json_file,
        lockstep=lockstep,
        width=width,
        height=height,
        mount=mount,
        as_is=as_is,
        **given,
    )
    record = run_drive(options, Console())
    if json_file:
        record.write(json_file)
    if record.exit_code == 0:
        print(launch_line(options))
    raise typer.Exit(record.exit_code)


def launch_line(options: DriveOptions) -> str:
    """The command that lets the same net drive a robot; docs/robot.md says what to measure before."""
    device = options.source if options.source.startswith("/dev/") else ""
    given = {
        "camera": "video" if device else "realsense",
        "camera_path": device,
        "bundle": str(options.bundle.absolute()) if options.bundle else "",
        "keys": os.pathsep.join(str(key.absolute()) for key in options.keys),
        "precision": options.precision,
        "engine": options.engine,
        "mount": str(options.mount.absolute()) if options.mount else "",
    }
    words = ["ros2", "launch", "fadnet_nav", "fadnet_nav.launch.py", *(f"{k}:={v}" for k, v in given.items() if v)]
    return f"next: {shlex.join(words)}"


def parse_size(text: str) -> tuple[int, int]:
    """`640x480` -> (640, 480); InputError for anything else."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 1920 and 16 <= int(height) <= 1080):
        raise InputError(f"Expected --size WIDTHxHEIGHT from 16x16 to 1920x1080 px, such as 640x480, got {text!r}.")
    return int(width), int(height)


def run_drive(options: DriveOptions, console: Console) -> DriveRecord:
    """Start the nodes, drive, stop them and write the report into `options.out`.

    Ctrl-C ends the drive early; the report covers what was driven.

    Raises
    ------
    MissingExtra
        A package or system library that this drive needs is not installed.
    InputError
        Options that do not go together.
    EdgeflockError
        A node died or none was heard of in time; carries the node's exit code and last words.
    """
    _require(options)
    from edgeflock_lab.supervisor import Supervisor, interruptible, stay_on_this_machine

    stay_on_this_machine()
    world = drive_world(options)
    console.print(_title(options), highlight=False)
    failure = None
    with listening(options, world) as (monitor, spin), Supervisor(options.out / "logs") as nodes:
        try:
            with interruptible(spin) as turn, _live(monitor, console) as refresh:
                start_nodes(nodes, options, world, monitor, turn)
                console.print("All nodes are up.")
                while not (monitor.over or nodes.ended("camera")):
                    turn()
                    nodes.check()
                    refresh()
        except KeyboardInterrupt:
            console.print("interrupted: the report covers what was driven")
        except EdgeflockError as e:
            if monitor.start_ns is None:
                raise
            failure = e  # after the report on what was driven until then
        end_ns = monitor.end()
        patience = time.monotonic() + SETTLE_S
        while not monitor.answered(end_ns) and time.monotonic() < patience:
            spin()
        notes = [*nodes.warnings("camera"), *nodes.warnings("steering")]
    record = _report(options, world, monitor, end_ns, console)
    as_is = options.as_is or mount_of(options, world) is None
    for note in [*notes, *(monitor.notes() if as_is else [])]:  # the canonical view squeezes nothing
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    if failure:
        raise failure
    return record


def drive_world(options: DriveOptions) -> World | None:
    """The world to drive in, seen through the camera that was asked for; None where nothing is simulated."""
    if not options.simulated:
        return None
    from fadnet_sim.world import make_world

    world = make_world(options.world, options.seed)
    asked: dict[str, float] = {}
    if options.camera_height is not None:
        asked["height"] = options.camera_height
    if options.camera_pitch is not None:
        asked["pitch"] = math.radians(options.camera_pitch)
    if options.camera_fov is not None:
        asked["fovy"] = math.radians(options.camera_fov)
    return replace(world, look=replace(world.look, **asked))


def mount_of(options: DriveOptions, world: World | None) -> Mount | None:
    """Where the camera is: each world's robot wears it a little differently, and knows how."""
    if world is not None:
        return world.look.mount
    return read_mount(options.mount) if options.mount else None


def node_list(options: DriveOptions, world: World | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Module and parameters of each node: those of the launch file, set up for this drive."""
    from fadnet_nav.nodes import robot

    kind, path = _camera(options)
    topics = {"topic": options.image_topic, "depth_topic": options.depth_topic}
    named = {name: topic for name, topic in topics.items() if topic}
    if named and kind != "bag":
        what = f"{path} is a {kind}" if path else f"{kind} is none"
        raise InputError(f"--image-topic and --depth-topic name topics of a bag, {what}: leave them out.")
    own: dict[str, dict[str, Any]] = {
        "base": {"fps": float(options.fps), "lockstep": options.lockstep, "wait_for_start": options.lockstep},
        "camera": {"width": options.width, "height": options.height, "fps": options.fps, **named},
        "guard": {"speed": options.speed},
    }
    if mount := mount_of(options, world):
        own["guard"] |= mount.parameters
        own["steering"] = {} if options.as_is else mount.parameters
    if world is not None:
        own["guard"]["camera_forward"] = world.look.forward
        own["camera"] |= {**world.look.mount.parameters, "camera_fovy": world.look.fovy}
    processes = robot(
        kind,
        path,
        net={
            "bundle": str(options.bundle.absolute()) if options.bundle else "",
            "keys": os.pathsep.join(str(key.absolute()) for key in options.keys),
            "precision": options.precision or "",
            "engine": options.engine or "",
        },
        world=options.world,
        seed=options.seed,
        require_depth=False if kind == "bag" else None,  # it may have none, and nothing moves
        use_sim_time=options.lockstep,
        more_readers=1,  # the monitor
    )
    return {p.name: (p.module, {**p.parameters[p.name], **own.get(p.name, {})}) for p in processes}


def _camera(options: DriveOptions) -> tuple[str, str]:
    """Kind and path of the camera."""
    if options.source in ("sim", "realsense"):
        return options.source, ""
    from edgeflock.runtime.cameras import kind_of

    path = Path(options.source).expanduser().absolute()
    return kind_of(path), str(path)


def _require(options: DriveOptions) -> None:
    """Say what is missing before anything starts, not after the drive."""
    from edgeflock_lab.supervisor import check_installed

    worn = {"height": options.camera_height, "pitch": options.camera_pitch, "fov": options.camera_fov}
    if not options.simulated and (unused := [f"--camera-{name}" for name, value in worn.items() if value is not None]):
        raise InputError(f"{', '.join(unused)}: of the simulated camera only. --mount names the file of a real one.")
    if options.simulated and options.mount:
        raise InputError("--mount is of a real camera: --camera-height and --camera-pitch set the simulated one.")
    if options.mount:
        read_mount(options.mount)
    if options.lockstep and not options.simulated:
        raise InputError(f"--lockstep needs the simulated base: expected --source sim, got {options.source!r}.")
    modules = ("matplotlib", "jinja2", *(["mujoco"] if options.simulated else []))
    check_installed("edgeflock drive", *modules)
    _check_environment(options)


def _check_environment(options: DriveOptions) -> None:
    """What rcl would answer with an exit, or a traceback, of its own."""
    source = None if options.source in ("sim", "realsense") else Path(options.source).expanduser()
    read = [source] if source is None or source.is_dir() else []
    check_outputs([options.json_file], [options.out], [source], [options.bundle, *read])
    Bundle.open(options.bundle or default_bundle(), options.keys).artefact(options.precision)
    if options.engine:
        check_engine(options.engine)
    kind, path = _camera(options)
    if kind == "video":
        from edgeflock.runtime.cameras import open_source

        open_source("video", path).close()
    check_environment()


def _title(options: DriveOptions) -> str:
    if not options.simulated:
        return f"Looking through {options.source} (open loop: no wheels are connected)"
    mode = "lock-step" if options.lockstep else "real time"
    return f"Driving {options.world} world {options.seed} for {options.duration:g} s, {mode}"


def listening(options: DriveOptions, world: World | None) -> AbstractContextManager:
    """The monitor, and what lets it hear."""
    from edgeflock_lab import supervisor
    from edgeflock_lab.monitor import Monitor

    path = world.path if world else None
    return supervisor.listening(lambda context: Monitor(options.duration, options.lockstep, path, context=context))


def start_nodes(
    nodes: Supervisor, options: DriveOptions, world: World | None, monitor: Monitor, spin: Callable[[], None]
) -> None:
    """Start the nodes, the camera last, and wait until all were heard."""
    from edgeflock_ros import topics

    deadline = time.monotonic() + START_TIMEOUT_S

    def unconnected() -> str | None:
        """The node for which the first frames would be lost: it does not listen yet, or the monitor not to it."""
        readers, writers = monitor.count_subscribers, monitor.count_publishers
        if readers(topics.image(topics.COLOR)) < LISTENERS or not writers(topics.STEERING):
            return "steering"
        return None if readers(topics.STEERING) >= LISTENERS and writers(topics.COMMAND) else "guard"

    def wait_for(missing: Callable[[], str | None]) -> None:
        while name := missing():
            spin()
            nodes.check()
            if nodes.ended("camera"):
                raise EdgeflockError(f"The recording ended before the node {name} was up: there is nothing to report.")
            if time.monotonic() > deadline:
                raise EdgeflockError(
                    f"Nothing came from the node {name} within {START_TIMEOUT_S:.0f} s. "
                    f"The end of {nodes.logs / name}.log:\n{nodes.tail(name)}"
                )

    for name, (module, parameters) in node_list(options, world).items():
        if name == "camera" and not options.simulated:  # a recording must not begin before somebody looks
            wait_for(unconnected)
        nodes.start_node(name, module, parameters, may_end=name == "camera" and not options.simulated)
    wait_for(lambda: None if monitor.start_ns is not None else monitor.missing() or "guard")


@contextlib.contextmanager
def _live(monitor: Monitor, console: Console) -> Iterator:
    """Live status on a terminal, four times a second; silence elsewhere."""
    from rich.live import Live

    if not console.is_terminal:
        yield lambda: None
        return
    with Live(monitor, console=console, auto_refresh=False, transient=True) as live:
        last = 0.0

        def refresh() -> None:
            nonlocal last
            if time.monotonic() - last > 0.25:
                last = time.monotonic()
                live.refresh()

        yield refresh


def _net_view(options: DriveOptions, world: World | None, monitor: Monitor) -> FramePreprocess | ImagePreprocess:
    """What makes of a frame at GIF size what the net sees of it."""
    from edgeflock_lab.figures import GIF_SIZE

    manifest, mount = read_manifest(options.bundle or default_bundle())[0], mount_of(options, world)
    prepare, trained = preparation(manifest.inputs[0]), manifest.trained_camera
    lens = None if options.as_is else monitor.lens
    if isinstance(prepare, FramePreprocess) and trained and mount and lens and lens.fx:
        prepare.look_through(trained, lens.resized(*GIF_SIZE), mount)
    return prepare


def _report(options: DriveOptions, world: World | None, monitor: Monitor, end_ns: int, console: Console) -> DriveRecord:
    from rich.table import Table

    from edgeflock_lab.drive_record import Drive
    from edgeflock_lab.figures import CameraMount, beside, draw_steering, rows, write_report

    if monitor.start_ns is None:
        raise EdgeflockError("Interrupted before the nodes were up: there is nothing to report on.")
    result = Drive(
        trace=monitor.trace,
        start_ns=monitor.start_ns,
        end_ns=end_ns,
        world=world.kind if world else None,
        seed=world.seed if world else None,
        path=world.path if world else None,
        outline=world.outline if world else [],
    )
    steering, start = monitor.trace.steering, monitor.start_ns
    look = world.look if world else None
    view = CameraMount(look.forward, look.height, look.pitch, look.fovy) if look else None
    prepare = _net_view(options, world, monitor)
    gif = [
        beside(draw_steering(image, steering.get(stamp, math.nan), (stamp - start) / 1e9, view), prepare(image)[0, 0])
        for stamp, image in monitor.pictures
    ]
    record = write_report(result, gif, options.out)
    made = ["latency.png", *(["trajectory.png"] if world else []), *(["drive.gif"] if gif else [])]
    made += ["drive.png"] if gif and world else []
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows(record):
        table.add_row(f"[dim]{name}[/]", value)
    console.print(table)
    console.print(f"Report: {options.out / 'report.html'}", highlight=False, soft_wrap=True)
    for line in left_over(options.out, [options.out / name for name in made], "*.png", "*.gif"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return record
