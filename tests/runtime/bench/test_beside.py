"""What runs on the machine while something is measured, and a line that says what it costs."""

import sys
import time

import psutil
import pytest

from edgeflock.runtime.bench.beside import beside
from edgeflock.runtime.bench.plan import plans
from edgeflock.runtime.bench.report import compared
from edgeflock.runtime.errors import EdgeflockError

LEARNS = f"{sys.executable} -c \"print('joined', flush=True); import time; time.sleep(600)\""


def test_the_block_begins_with_the_commands_first_line_and_ends_all_that_it_started(tmp_path):
    pid = tmp_path / "pid"
    with beside(f"sleep 600 & echo $! > {pid}; echo joined; wait"):
        child = psutil.Process(int(pid.read_text()))
        assert child.is_running()
    end = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_command_that_ends_meanwhile_makes_no_figure():
    ended = pytest.raises(EdgeflockError, match=r"ended with code 3 before the measurement did:\nno roster")
    with ended, beside("echo no roster; sleep 0.2; exit 3"):
        time.sleep(3.0)
    with pytest.raises(EdgeflockError, match="ended with code 4"), beside("exit 4"):
        pytest.fail("it never began")


def test_nothing_runs_beside_where_nothing_is_asked_for():
    before = len(psutil.Process().children())
    with beside(None):
        assert len(psutil.Process().children()) == before


def test_the_chain_is_measured_without_the_command_and_then_with_it():
    _, cells = plans(
        bundle=None, net=None, engines=None, precisions=None, scopes=["chain"], modes=["paced"], rates=[30.0],
        keys=[], beside=LEARNS,
    )  # fmt: skip
    assert [cell.beside for cell in cells] == [None, LEARNS]


def test_a_line_says_what_the_command_costs(cell):
    alone, busy = (cell(ms, scope="chain", mode="paced", rate_hz=30.0, dropped=n, beside=command)
                   for ms, n, command in ((6.0, 0, None), (9.0, 2, "fleet join r1")))  # fmt: skip
    (line,) = compared([alone, busy])
    assert line.startswith("beside `fleet join r1`: p99 11.25 ms, 7.50 without, 1.50 times; ")
    assert line.endswith("2 of 1002 frames lost, 0 without")
