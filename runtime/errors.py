"""The one error family of edgeflock.

A message says what was expected, what came, and what to do. Every class carries the exit code with which the
command line ends, so that a script can tell a tampered bundle from a missing extra.
"""

from __future__ import annotations

import errno
import os
import traceback


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


class FileError(EdgeflockError):
    """A file or folder cannot be read or written as the system answers: not there, not permitted, the disk is full."""

    exit_code = 17


class LibraryError(EdgeflockError):
    """A library refused what it was given, and the code that called it did not expect that."""

    exit_code = 18


class ResultError(EdgeflockError):
    """The command ran as asked, but what came out would be worth less than nothing, so it is not called a result."""

    exit_code = 19


class TransportError(EdgeflockError):
    """The way to other robots cannot be opened, or it is closed."""

    exit_code = 20


_WAYS_OUT = {
    errno.ENOENT: "Check the path.",
    errno.EACCES: "Choose another place, or change its permissions.",
    errno.EPERM: "Choose another place, or change its permissions.",
    errno.EISDIR: "Expected a file, it is a folder.",
    errno.ENOTDIR: "Expected a folder, a file stands there.",
    errno.EEXIST: "Choose another name.",
    errno.ENOSPC: "Make room or choose another disk; files that were there before are as they were.",
    errno.EDQUOT: "Make room or choose another disk; files that were there before are as they were.",
    errno.EFBIG: "Choose another disk, or raise the limit (ulimit -f).",
    errno.EROFS: "Choose a place that can be written.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Raise the limit (ulimit -n 4096).",
    errno.EIO: "The disk fails: see what dmesg says.",
}
_OURS = ("edgeflock", "fadnet_", "__main__", "emotion_recognition", "fleet_exchange", "choreography")
_SHOWN = 300  # characters of a library's message


def in_our_words(error: BaseException) -> EdgeflockError | None:
    """What the user is told of an exception that no caller expected; None for a fault of our own code.

    It is the last resort, for the outermost `except` of a command or node. Code that knows which file it reads says
    more: file, expected, got, way out.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    EdgeflockError or None
        Itself where it is one; `FileError` for what the system answers; `MissingExtra` for a package
        that is not installed; `LibraryError` for what a library raises.
    """
    if isinstance(error, EdgeflockError):
        return error
    if isinstance(error, OSError):
        names = " -> ".join(os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None)
        what = error.strerror or str(error) or type(error).__name__
        way_out = _WAYS_OUT.get(error.errno or 0, "")
        return FileError(f"{names or 'a file or a connection'}: {what}. {way_out}".rstrip())
    if isinstance(error, MemoryError):
        return LibraryError(
            f"not enough memory ({error or 'no size is said'}): take less at a time, or a smaller input."
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(_OURS):
        return MissingExtra(
            f"this needs the Python package {error.name.partition('.')[0]}, which is not installed: `edgeflock doctor` "
            "shows what is missing, and the line that installs it."
        )
    module = type(error).__module__
    if module == "builtins":
        module = _raised_in(error)
    if module.startswith(_OURS) or not isinstance(error, Exception):
        return None
    library, said = module.split(".")[0], " ".join(str(error).split())[:_SHOWN] or "no reason"
    return LibraryError(
        f"{library} refuses its input ({type(error).__name__}: {said}). Check the files that were given; "
        f"EDGEFLOCK_TRACEBACK=1 shows where it happened."
    )


def _raised_in(error: BaseException) -> str:
    """Module whose code raised an exception."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", _OURS[0])) if frames else _OURS[0]


def end_with(error: BaseException) -> tuple[str, int] | None:
    """Line for standard error and exit code of a process that an exception ends; None for a fault of our own.

    With EDGEFLOCK_TRACEBACK=1 in the environment the traceback is printed before.
    """
    told = in_our_words(error)
    if told is None:
        return None
    if os.environ.get("EDGEFLOCK_TRACEBACK") == "1":
        traceback.print_exception(error)
    return f"edgeflock: {told}", told.exit_code
