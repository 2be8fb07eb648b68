"""The bundle that a robot drives with, behind a link that changes in one step.

A folder holds `bundles/<12 hex digits of the digest>`, the link `current` to one of them, and `previous`. Who opens
`current` sees one whole bundle or another, also when power goes while it changes.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from edgeflock.runtime.bundle.bundle import read_manifest
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import to_disk


class DrivingBundle:
    """The link and the bundles behind it.

    Parameters
    ----------
    folder : Path
        Made by the first `install`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder / "current"
        self.previous = folder / "previous"

    def draft(self) -> Path:
        """Folder for a bundle that is still to be made, on the same disk; not there yet."""
        (self.folder / "bundles").mkdir(parents=True, exist_ok=True)
        return self.folder / "bundles" / f".{secrets.token_hex(4)}"

    def install(self, bundle: Path) -> Path:
        """Drive with another bundle from now on; it moves into the folder, and the one before becomes `previous`.

        Parameters
        ----------
        bundle : Path
            On the same disk, see `draft`. It was opened and checked.

        Returns
        -------
        Path
            Where it lies.
        """
        _, digest = read_manifest(bundle)
        home = self.folder / "bundles" / digest[:12]
        if not home.exists():
            bundle.rename(home)
        if self.current.exists() and self.current.resolve() != home.resolve():
            _point(self.previous, self.current.resolve().name)
        _point(self.current, home.name)
        return home

    def roll_back(self) -> Path:
        """Drive with the bundle before again; a second call takes it back.

        Raises
        ------
        InputError
            There is none.
        """
        if not self.previous.exists() or not self.current.exists():
            raise InputError(f"{self.folder} has no bundle before the current one: there is nothing to go back to.")
        now, before = self.current.resolve().name, self.previous.resolve().name
        _point(self.current, before)  # the robot's way back comes first
        _point(self.previous, now)
        return self.current.resolve()


def _point(link: Path, bundle: str) -> None:
    draft = link.with_name(f".{secrets.token_hex(4)}.{link.name}")
    draft.symlink_to(Path("bundles") / bundle)
    draft.replace(link)
    to_disk(link.parent)
