"""The simulated base: real time, lock-step, and what it does when nobody commands it."""

import math
import signal
import time
from itertools import pairwise
from xml.etree import ElementTree

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import Twist, TwistStamped  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_msgs.msg import Empty, String, UInt32  # noqa: E402

from edgeflock.runtime.errors import EdgeflockError, InputError  # noqa: E402
from fadnet_sim.base_node import FIRST_STAMP_NS, BaseNode  # noqa: E402


class Driver:
    """A base and somebody who drives it, over the real middleware, in one executor."""

    def __init__(self, domain, **parameters):
        overrides = [f"-p {k}:={str(v).lower() if isinstance(v, bool) else v}" for k, v in parameters.items()]
        rclpy.init(args=" ".join(["--ros-args", *overrides]).split(), domain_id=domain)
        self.odom, self.clock, self.collisions, self.diagnostics = [], [], [], []
        self.node = rclpy.create_node("driver")
        self.node.create_subscription(Odometry, "odom", self.odom.append, 10)
        self.node.create_subscription(Clock, "/clock", self.clock.append, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(UInt32, "sim/collisions", lambda m: self.collisions.append(m.data), latched)
        self.kind = TwistStamped if parameters.get("stamped", True) else Twist
        self.commands = self.node.create_publisher(self.kind, "cmd_vel", 10)
        self.base = BaseNode()
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.base)

    def command(self, speed, steering=0.0, stamp=None):
        message = self.kind()
        twist = message.twist if self.kind is TwistStamped else message
        twist.linear.x, twist.angular.z = speed, speed * math.tan(steering) / 0.36
        if stamp is not None:
            message.header.stamp = stamp
        self.commands.publish(message)

    def spin(self, until, each=lambda: None):
        """Wait for a condition; generous, because the machine may be busy."""
        end = time.monotonic() + 60
        while time.monotonic() < end and not until():
            self.executor.spin_once(timeout_sec=0.01)
            each()
        return until()

    @property
    def speed(self):
        return self.odom[-1].twist.twist.linear.x

    def close(self):
        self.executor.shutdown()
        self.base.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def drive(monkeypatch, domain):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    drivers = []

    def start(**parameters):
        drivers.append(Driver(domain, **parameters))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def ns(stamp):
    return stamp.sec * 10**9 + stamp.nanosec


def test_drives_in_real_time_and_stops_when_commands_cease(drive):
    d = drive(command_timeout=0.3)
    began = time.time_ns()
    assert d.spin(lambda: d.odom and abs(d.speed - 0.8) < 0.05, each=lambda: d.command(0.8))
    sent, heard = time.time_ns(), len(d.odom)
    assert d.spin(lambda: abs(d.speed) < 0.02), "went on without commands"
    slower = next(m for m in d.odom[heard:] if m.twist.twist.linear.x < 0.6)
    assert ns(slower.header.stamp) - sent > 0.25e9, "stopped before its time-out"
    stamps = [ns(m.header.stamp) for m in d.odom]
    assert began < stamps[0] and stamps[-1] < time.time_ns()
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert d.collisions == [0]


def test_odometry_has_variances_and_tf_the_same_pose_with_the_wheels_under_the_robots_own_names(drive):
    kind = pytest.importorskip("tf2_msgs.msg").TFMessage
    d, tree = drive(frame_prefix="robot1/"), []
    d.node.create_subscription(kind, "/tf", tree.append, 100)
    assert d.spin(lambda: tree and abs(d.speed - 0.8) < 0.05, each=lambda: d.command(0.8, steering=0.3))
    odom = d.odom[-1]
    assert (odom.header.frame_id, odom.child_frame_id) == ("robot1/odom", "robot1/base_link")
    assert odom.pose.covariance[0] == odom.pose.covariance[35] == odom.twist.covariance[0] == 1e-6
    assert odom.twist.covariance[7] == 1e6  # of what it does not tell
    stamped = {ns(m.header.stamp): m for m in d.odom}
    together = [
        (m, stamped[ns(m.transforms[0].header.stamp)]) for m in tree if ns(m.transforms[0].header.stamp) in stamped
    ]
    base, *wheels = together[-1][0].transforms
    assert (base.header.frame_id, base.child_frame_id) == ("robot1/odom", "robot1/base_link")
    at, pose = base.transform.translation, together[-1][1].pose.pose
    assert (at.x, at.y, base.transform.rotation) == (pose.position.x, pose.position.y, pose.orientation)
    assert [(w.header.frame_id, w.child_frame_id) for w in wheels] == [
        ("robot1/base_link", f"robot1/{name}") for name in ("fl", "fr", "rl", "rr")
    ]
    left = wheels[0].transform.translation
    assert (left.x, left.y, left.z) == pytest.approx((0.36, 0.15, 0.07), abs=0.01)


def test_whoever_comes_later_gets_the_cars_description(drive):
    d, heard = drive(), []
    assert d.spin(lambda: d.odom)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    d.node.create_subscription(String, "robot_description", lambda m: heard.append(m.data), latched)
    assert d.spin(lambda: heard)
    robot = ElementTree.fromstring(heard[0])
    links = [link.get("name") for link in robot.iter("link")]
    assert links == ["base_link", "fl", "fr", "rl", "rr"]
    assert {joint.find("child").get("link") for joint in robot.iter("joint")} == set(links[1:])


def test_takes_unstamped_twists(drive):
    d = drive(stamped=False)
    assert d.spin(lambda: d.odom and abs(d.speed - 0.5) < 0.05, each=lambda: d.command(0.5))


def test_a_command_that_is_not_finite_stops_it(drive):
    d = drive()
    assert d.spin(lambda: d.odom and d.speed > 0.3, each=lambda: d.command(0.5))
    assert d.spin(lambda: abs(d.speed) < 0.02, each=lambda: d.command(math.nan))


def test_lock_step_moves_one_camera_period_for_each_command_with_its_stamp(drive):
    d = drive(lockstep=True, fps=20.0)
    answered = 0

    def answer():
        nonlocal answered
        if answered < len(d.odom) and answered < 40:
            d.command(1.0, stamp=d.odom[answered].header.stamp)
            answered += 1

    assert d.spin(lambda: len(d.odom) == 41, each=answer)
    stamps = [ns(m.header.stamp) for m in d.odom]
    assert stamps == [FIRST_STAMP_NS + n * 50_000_000 for n in range(41)]
    assert d.spin(lambda: ns(d.clock[-1].clock) == stamps[-1]), "the clock did not follow"
    assert math.dist((d.odom[0].pose.pose.position.x, d.odom[0].pose.pose.position.y),
                     (d.odom[-1].pose.pose.position.x, d.odom[-1].pose.pose.position.y)) > 1.0  # fmt: skip


def test_lock_step_repeats_tick_0_until_the_first_answer_and_ignores_other_stamps(drive):
    d = drive(lockstep=True)
    assert d.spin(lambda: len(d.odom) >= 3)
    d.command(1.0, stamp=rclpy.time.Time(nanoseconds=5).to_msg())
    assert d.spin(lambda: d.base.speed == 1.0), "the command did not come"
    heard = len(d.odom)
    assert d.spin(lambda: len(d.odom) >= heard + 2)
    assert {ns(m.header.stamp) for m in d.odom} == {FIRST_STAMP_NS}


def test_lock_step_begins_when_somebody_says_start(drive):
    d = drive(lockstep=True, wait_for_start=True)
    start = d.node.create_publisher(
        Empty, "sim/start", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    answered = []

    def answer():
        if len(answered) < len(d.odom):
            answered.append(d.odom[len(answered)].header.stamp)
            d.command(1.0, stamp=answered[-1])

    assert d.spin(lambda: len(answered) >= 3 and len(d.odom) >= 5, each=answer)
    assert {ns(m.header.stamp) for m in d.odom} == {FIRST_STAMP_NS}
    start.publish(Empty())
    assert d.spin(lambda: ns(d.odom[-1].header.stamp) > FIRST_STAMP_NS, each=answer)


def test_lock_step_reports_a_missing_command_and_goes_on_to_a_stop(drive):
    d = drive(lockstep=True, lockstep_timeout=0.05, command_timeout=0.2, fps=20.0)
    sent = set()

    def answer_the_first_20():
        for m in d.odom:
            if ns(m.header.stamp) not in sent and len(sent) < 20:
                sent.add(ns(m.header.stamp))
                d.command(1.0, stamp=m.header.stamp)

    assert d.spin(lambda: len(sent) == 20, each=answer_the_first_20)
    assert d.speed > 0.7
    assert d.spin(lambda: abs(d.speed) < 0.02)
    assert d.spin(lambda: any("time was lost" in s.message for a in d.diagnostics for s in a.status))
    values = {v.key: v.value for v in d.diagnostics[-1].status[0].values}
    assert int(values["lockstep_timeouts"]) > 4


def test_counts_a_collision_when_steered_into_a_wall(drive):
    d = drive(lockstep=True, world="indoor", seed=2)
    sent = set()

    def answer():
        for m in d.odom[-1:]:
            if ns(m.header.stamp) not in sent:
                sent.add(ns(m.header.stamp))
                d.command(1.0, 0.3, stamp=m.header.stamp)

    assert d.spin(lambda: d.collisions[-1:] == [1], each=answer)


def test_pushes_move_it_sideways(drive):
    d = drive(push_speed=0.8, push_every=0.5, lockstep=True)
    for _ in range(30):
        d.base.advance(1 / 30)
    assert abs(d.base.sim.lateral_error) > 0.005


def test_says_what_is_wrong_with_its_parameters(drive):
    with pytest.raises(EdgeflockError, match="stamped:=true"):
        drive(lockstep=True, stamped=False)
    rclpy.try_shutdown()
    with pytest.raises(InputError, match="indoor"):
        drive(world="moon")
    rclpy.try_shutdown()


def test_runs_as_a_process_and_ends_on_sigint(graph):
    heard = graph.listen(Odometry, "odom")
    process = graph.start("fadnet_sim.base_node", seed=4)
    assert graph.until(lambda: heard, 60), process.log.read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, process.log.read_text()
    assert "Traceback" not in process.log.read_text()
