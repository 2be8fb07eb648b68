"""One way to run a node as a process: signals at any moment, and its last word."""

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
        os.kill(os.getpid(), int(sys.argv[1]))
        self.words = self.create_publisher(Empty, "words", 1)
        print("made", flush=True)

    def close(self):
        self.words.publish(Empty())
        print("closed")

sys.exit(run(lambda: [Talker()], []))
"""


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
