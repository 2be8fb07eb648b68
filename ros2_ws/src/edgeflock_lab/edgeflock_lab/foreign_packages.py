"""What worlds that others drew are made of: from the package index, by pip, once, into this user's cache.

Nothing of it is part of edgeflock. Every file is known by its SHA-256.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.files import cache_folder, sha256_of

DUCKIETOWN = "duckietown-world-daffy==6.4.3"
DUCKIETOWN_SHA256 = "0300dc7eb47bac635d1bc1fb61cf2dc2df0548d3179d95e2c475d6943d2a1d5f"
ARCHIVE = "duckietown-world-daffy-6.4.3.tar.gz"
MINIWORLD = {
    "miniworld==2.1.0": "40d7d241f7e0067d9280af38520269fca119bd65fca7f3fea373f39412b6e98f",
    "pyglet==1.5.31": "f68413564bbec380e4815898fef0fb7a4a494dc3f8718bfbf28ce2a802634c88",
    "gymnasium==1.2.2": "f04ec362b1fdf73a8b327db5ef89384a3f2ba411e05d3521513414fbbb2199c8",
    "cloudpickle==3.1.3": "1654f4f18e416447210a63c5c25a135d65a292156aa5fa519dfa4baf7726dddb",
    "farama-notifications==0.0.6": "f84839188efa1ce5bb361c2a84881b2dc2c0d0d7fb661ff00421820170930935",
}
"""MiniWorld and what it needs beside numpy and typing_extensions, which are there."""


def duckietown_archive() -> Path:
    """The archive with Duckietown's maps and photographs.

    Raises
    ------
    EdgeflockError
        It cannot be had, or is another file.
    """
    archive = cache_folder("foreign") / ARCHIVE
    if not archive.exists():
        way_out = f"put {ARCHIVE} into {archive.parent}"
        _fetch(archive, {DUCKIETOWN: DUCKIETOWN_SHA256}, ["download", "--no-binary=:all:", "-d"], way_out, ARCHIVE)
    if (found := sha256_of(archive)) != DUCKIETOWN_SHA256:
        raise EdgeflockError(
            f"expected SHA-256 {DUCKIETOWN_SHA256} of {archive}, got {found}: remove it, and it is fetched anew."
        )
    return archive


def miniworld_folder() -> Path:
    """The folder that `miniworld` and what it needs can be imported from.

    Raises
    ------
    EdgeflockError
        It cannot be had.
    """
    folder = cache_folder("foreign") / next(iter(MINIWORLD)).replace("==", "-")
    if not folder.exists():
        same = f"pip install --no-deps --target {folder.name} {' '.join(MINIWORLD)}"
        way_out = f"run `{same}` on one that does, and put the folder into {folder.parent}"
        _fetch(folder, MINIWORLD, ["install", "--only-binary=:all:", "--target"], way_out)
    return folder


def _fetch(place: Path, packages: dict[str, str], pip: Sequence[str], way_out: str, part: str = "") -> None:
    """Let pip fill a folder, and put it, or a part of it, into its place once it is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent) as folder:
        wanted, got = Path(folder, "wanted.txt"), Path(folder, "got")
        wanted.write_text("".join(f"{package} --hash=sha256:{digest}\n" for package, digest in packages.items()))
        command = [sys.executable, "-m", "pip", *pip, str(got), "-q", "--no-deps", "-r", str(wanted)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["no reason"])[-1]
            raise EdgeflockError(
                f"expected {', '.join(packages)} from the package index, pip says: {last} Where this machine cannot "
                f"reach one, {way_out}."
            )
        (got / part).replace(place)
