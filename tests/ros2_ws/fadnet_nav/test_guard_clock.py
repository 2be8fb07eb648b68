"""The guard under a system clock that steps, as NTP or `date` make it do: the robot stands all the same."""

import mmap
import shutil
import struct
import subprocess
import time

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import JointState

from edgeflock_ros.messages import to_stamp

SHIFTED = r"""
// clock_gettime whose CLOCK_REALTIME is off by the int64 (ns) in the file CLOCK_OFFSET.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile int64_t *offset;
__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("CLOCK_OFFSET");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file >= 0) offset = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
}
int clock_gettime(clockid_t which, struct timespec *t) {
  int failed = syscall(SYS_clock_gettime, which, t);
  if (!failed && which == CLOCK_REALTIME && offset && offset != MAP_FAILED) {
    int64_t ns = t->tv_sec * INT64_C(1000000000) + t->tv_nsec + *offset;
    t->tv_sec = ns / INT64_C(1000000000), t->tv_nsec = ns % INT64_C(1000000000);
  }
  return failed;
}
"""


@pytest.fixture(scope="module")
def system_clock(tmp_path_factory):
    """Environment of a process whose system clock `step(seconds)` sets off."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("clock")
    source, library, offset = folder / "shifted.c", folder / "shifted.so", folder / "offset"
    source.write_text(SHIFTED)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    offset.write_bytes(bytes(8))
    with offset.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:

        def step(seconds):
            shared[:] = struct.pack("<q", round(seconds * 1e9))

        yield {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}, step


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
def test_a_step_of_the_system_clock_while_the_camera_is_silent_stops_the_robot(graph, system_clock, seconds):
    """A timer on the system clock would wait as long as the step was, and no zero command would come.

    Forward is the worst case of the wheels' middleware, which waits for a moment of the shifted clock: the kernel,
    which knows nothing of the shift, ends that wait a minute late. A real step back does the same to it.
    """
    environment, step = system_clock
    step(0.0)
    graph.env |= environment
    commands = graph.listen(TwistStamped, "cmd_vel")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    joints = graph.node.create_publisher(JointState, "steering", 5)

    def steer():
        joint = JointState(name=["steering"], position=[0.0])
        joint.header.stamp = to_stamp(time.time_ns())
        joints.publish(joint)

    timer = graph.node.create_timer(1 / 30, steer)
    guard = graph.start("guard_node", require_depth=False)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x > 0.5), guard.log.read_text()
    step(seconds)
    timer.cancel()
    stepped = time.time_ns()
    assert graph.until(lambda: commands[-1][0] > stepped and commands[-1][1].twist.linear.x == 0.0, 10)
    count = len(reports)
    assert graph.until(lambda: len(reports) > count + 2, 20)  # it goes on reporting, too
    step(0.0)  # so that the middleware ends in time
