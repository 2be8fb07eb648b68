"""One way to run a node as a process: signals at any moment, its last word, and errors in our words."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

NODE = """
import os, signal, sys
from rclpy.node import Node
from std_msgs.msg import Empty
from edgeflock_ros.process import run

class Talker(Node):
    done = None
    def __init__(self):
        super().__init__("talker")
        os.kill(os.getpid(), int(sys.argv[1]))  # 0: none
        self.words = self.create_publisher(Empty, "words", 1)
        print("made", flush=True)

    def close(self):
        self.words.publish(Empty())
        print("closed")

sys.exit(run(lambda: [Talker()], sys.argv[2:]))
"""


def run_talker(graph, arguments=(), **environment):
    """Exit code and output of the node."""
    changed = {k: v for k, v in (graph.env | environment).items() if v is not None}
    command = [sys.executable, "-c", NODE, "0", *arguments]
    return subprocess.run(command, env=changed, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_node_is_made_lets_it_say_its_last_word(graph, number):
    done = subprocess.run(
        [sys.executable, "-c", NODE, str(int(number))], env=graph.env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["made", "closed"], "")


def test_what_nohup_started_goes_on_after_a_hang_up(graph):
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + NODE
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring, str(int(signal.SIGHUP))], env=graph.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "made\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [
        ({"ROS_DOMAIN_ID": "300"}, 5, "edgeflock: expected ROS_DOMAIN_ID as a number from 0 to 232, got '300'"),
        ({"ROS_DOMAIN_ID": "seven"}, 5, "got 'seven'"),
        ({"HOME": None, "ROS_LOG_DIR": None, "ROS_HOME": None}, 17, "Set ROS_LOG_DIR to a folder that can be written"),
        ({"ROS_LOG_DIR": "/proc/nowhere"}, 17, "Failed to create log directory '/proc/nowhere'"),
        ({"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}, 18, "check ROS_SECURITY_KEYSTORE"),
    ],
)
def test_what_ros_dies_of_is_one_line_with_a_way_out_and_a_code(graph, environment, code, message):
    done = run_talker(graph, **environment)
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "/project/src" not in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [("-r", "__ns:=7a"), ("-r", "__node:=a-b"), ("-p", "speed"), ("--params-file", "/nowhere.yaml")]
)
def test_arguments_that_ros_cannot_read_are_refused_with_how_they_are_written(graph, arguments):
    done = run_talker(graph, ["--ros-args", *arguments])
    assert done.returncode == 5 and arguments[1] in done.stderr, done.stderr
    assert "Correct what stands after --ros-args" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "edgeflock_ros.camera_node",
        "edgeflock_ros.registration_node",
        "fadnet_nav.steering_node",
        "fadnet_nav.guard_node",
        "fadnet_nav.composed",
        "emotion_recognition.emotion_node",
        "fleet_exchange.fleet_node",
        "choreography.choreography_node",
        "choreography.tracker_node",
        "fadnet_sim.base_node",
        "fadnet_sim.camera_node",
    ],
)
def test_a_middleware_that_is_not_installed_is_said_before_rclpy_ends_the_process(graph, module):
    environment = graph.env | {"RMW_IMPLEMENTATION": "rmw_nobody_cpp"}
    done = subprocess.run([sys.executable, "-m", module], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5 and done.stderr.startswith("edgeflock: expected the middleware RMW_IMPLEMENTATION")
