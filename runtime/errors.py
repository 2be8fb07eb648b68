"""The one error family of edgeflock.

A message says what was expected, what came, and what to do. Every class carries the exit code with which the
command line ends, so that a script can tell a tampered bundle from a missing extra.
"""

from __future__ import annotations


class EdgeflockError(Exception):
    """Base of every error that edgeflock raises on purpose."""

    exit_code = 1


class MissingExtra(EdgeflockError):
    """A part needs a package or a system library that is not installed; the message has the install line."""

    exit_code = 4

    @classmethod
    def pip(cls, what: str, extra: str, cause: BaseException | None = None) -> MissingExtra:
        """Name the `pip install` line that brings `extra`."""
        reason = f" ({cause})" if cause else ""
        line = f'pip install "edgeflock[{extra}]"'
        return cls(f"{what} needs packages that are not installed{reason}. Install them: {line}")

    @classmethod
    def apt(cls, what: str, packages: str, cause: BaseException | None = None) -> MissingExtra:
        """Name the `apt-get install` line that brings `packages`."""
        reason = f" ({cause})" if cause else ""
        return cls(f"{what} needs a system library{reason}. Install it: sudo apt-get install -y {packages}")


class InputError(EdgeflockError):
    """An argument, frame or array is not what the callee takes (shape, dtype, range, NaN)."""

    exit_code = 5


class DataError(EdgeflockError):
    """A data set is broken; the message names the file, the row and what was expected."""

    exit_code = 6


class ParityError(EdgeflockError):
    """Two representations of one net disagree (torch and ONNX, or a bundle's reference vectors and this board)."""

    exit_code = 7


class GateError(EdgeflockError):
    """The quantised net lost more of the task metric than the gate allows."""

    exit_code = 8


class EngineError(EdgeflockError):
    """No engine on this board can run the net as asked, or it would fall back silently."""

    exit_code = 9


class BundleError(EdgeflockError):
    """A bundle is not usable; the subclasses say why."""

    exit_code = 10


class BundleFileMissing(BundleError):
    """A file that the manifest lists is not in the folder."""

    exit_code = 11


class BundleTampered(BundleError):
    """A file's SHA-256 is not the manifest's."""

    exit_code = 12


class BundleSignatureInvalid(BundleError):
    """The signature does not belong to this manifest and the key it names, or there is none."""

    exit_code = 13


class BundleKeyUntrusted(BundleError):
    """The bundle is signed by a key that this machine does not trust."""

    exit_code = 14


class BundleSchemaTooNew(BundleError):
    """The manifest was written by a newer edgeflock."""

    exit_code = 15


class CameraError(EdgeflockError):
    """A camera or a recording cannot be opened or stopped delivering frames."""

    exit_code = 16


class TransportError(EdgeflockError):
    """The way to other robots cannot be opened, or it is closed."""

    exit_code = 20
