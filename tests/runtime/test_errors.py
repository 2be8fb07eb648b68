"""Every exception that reaches a user: file, expected, got, way out, and an exit code of its own."""

import errno
import inspect
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edgeflock.runtime import errors
from edgeflock.runtime.errors import (
    EdgeflockError,
    FileError,
    InputError,
    LibraryError,
    MissingExtra,
    end_with,
    in_our_words,
)


def caught(call) -> BaseException:
    with pytest.raises(BaseException) as info:
        call()
    return info.value


def test_no_two_kinds_of_error_share_an_exit_code():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, EdgeflockError)]
    assert len({kind.exit_code for kind in kinds}) == len(kinds) > 15


def test_an_error_of_ours_is_told_as_it_is():
    error = InputError("expected this, got that.")
    assert in_our_words(error) is error and end_with(error) == ("edgeflock: expected this, got that.", 5)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOENT, "Check the path"),
        (errno.EACCES, "permissions"),
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "can be written"),
        (errno.EISDIR, "a folder"),
        (errno.ENOTDIR, "a file stands there"),
        (errno.ENAMETOOLONG, "shorter"),
    ],
)
def test_what_the_system_answers_names_the_file_and_the_way_out(number, says):
    told = in_our_words(OSError(number, os.strerror(number), "runs/best.json"))
    assert isinstance(told, FileError) and told.exit_code == 17
    assert str(told).startswith(f"runs/best.json: {os.strerror(number)}.") and says in str(told)


def test_what_a_library_refuses_is_one_line(monkeypatch):
    told = in_our_words(caught(lambda: cv2.resize(np.zeros((0, 0), np.uint8), (3, 3))))
    assert isinstance(told, LibraryError) and str(told).startswith("cv2 refuses its input (error: OpenCV")
    assert "\n" not in str(told)


def test_a_built_in_exception_raised_by_a_library_belongs_to_that_library():
    told = in_our_words(caught(lambda: np.zeros(3).reshape(2, 2).mean(axis="x")))
    assert told is None or isinstance(told, LibraryError)
    told = in_our_words(caught(lambda: np.testing.assert_array_equal([1], [2])))
    assert isinstance(told, LibraryError) and str(told).startswith("numpy refuses")


def test_a_fault_of_our_own_keeps_its_traceback():
    assert in_our_words(eval_of_ours()) is None and end_with(eval_of_ours()) is None


def eval_of_ours() -> BaseException:
    space = {"__name__": "edgeflock.runtime.somewhere"}
    exec("def fault():\n    return {}['missing']", space)
    return caught(space["fault"])


def test_too_little_memory_says_what_to_do():
    assert "take less at a time" in str(in_our_words(caught(lambda: np.empty(1 << 60, np.uint8))))


def test_ctrl_c_is_no_error():
    assert in_our_words(KeyboardInterrupt()) is None


ENDS = """
import errno, os, sys
import edgeflock.runtime.cli as cli
def full(**_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.json")
cli.app = full
cli.main()
"""


@pytest.mark.parametrize("trace", ["0", "1"])
def test_the_command_line_ends_with_one_line_and_with_the_traceback_where_asked(trace):
    done = subprocess.run(
        [sys.executable, "-c", ENDS], capture_output=True, text=True, env={**os.environ, "EDGEFLOCK_TRACEBACK": trace}
    )
    assert done.returncode == 17 and "edgeflock: out.json: No space left on device. Make room" in done.stderr
    assert ("Traceback" in done.stderr) == (trace == "1")


def test_a_package_that_is_not_installed_is_named_but_not_a_module_of_our_own():
    told = in_our_words(ModuleNotFoundError("No module named 'cv2.aruco'", name="cv2.aruco"))
    assert isinstance(told, MissingExtra) and "package cv2, which" in str(told) and "edgeflock doctor" in str(told)
    assert in_our_words(ModuleNotFoundError("no", name="edgeflock.nowhere")) is None
