"""The guard node over the real middleware: what it sends to the base, when it stops, and its last word."""

import math
import signal
import struct
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import DurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.safety.limits import GuardLimits
from edgeflock.runtime.safety.obstacles import Obstacles
from edgeflock_ros.frames import mounted, optical
from edgeflock_ros.messages import ImagePublisher, to_ns, to_stamp
from edgeflock_ros.nodes import KEPT

LENS = Intrinsics(160, 120, 100.0, 100.0, 80.0, 60.0)

LIMITS = {"camera_pitch": 0.0, "frame_timeout": 1.0}  # a busy machine may lose a few frames in a row


class FakeRobot:
    """Depth and steering at 30 Hz from the observer, as camera and steering node would send them."""

    def __init__(self, graph):
        self.angle, self.metres, self.sent, self.clock_ns = 0.2, 6.0, [], None
        self.depth = ImagePublisher(graph.node, "camera/aligned_depth_to_color", LENS, "16UC1", "camera", "reliable")
        self.names, self.steers = ["steering"], True
        self.joints = graph.node.create_publisher(JointState, "steering", 5)
        self.timer = graph.node.create_timer(1 / 30, self.publish)

    def publish(self):
        stamp = to_stamp(time.time_ns() if self.clock_ns is None else self.clock_ns)
        if self.metres is not None:
            self.depth.publish(np.full((120, 160), round(1000 * self.metres), np.uint16), stamp)
        joint = JointState(name=self.names, position=[self.angle if n == "steering" else 9.0 for n in self.names])
        joint.header.stamp = stamp
        if self.steers:
            self.joints.publish(joint)
        self.sent.append(to_ns(stamp))


@pytest.fixture(scope="module")
def driving(shared_graph):
    """A guard that drives."""
    shared_graph.robot = FakeRobot(shared_graph)
    shared_graph.guard = shared_graph.start("guard_node", **LIMITS)
    shared_graph.commands = shared_graph.listen(TwistStamped, "cmd_vel")
    shared_graph.diagnostics = shared_graph.listen(DiagnosticArray, "/diagnostics")
    drives(shared_graph)
    return shared_graph


def speed(graph):
    return graph.commands[-1][1].twist.linear.x if graph.commands else None


def drives(graph, at=1.0):
    assert graph.until(lambda: speed(graph) == at), graph.guard.log.read_text()


def stops(graph, since_ns):
    """A zero command comes. How soon is for a quiet machine: tests/runtime/safety/test_guard.py holds the limits."""
    assert graph.until(lambda: graph.commands[-1][0] > since_ns and speed(graph) == 0.0)


def state(graph):
    return {v.key: v.value for v in graph.diagnostics[-1][1].status[0].values}


def test_a_command_carries_the_stamp_of_its_frame_and_the_bicycle_models_yaw_rate(driving):
    count = len(driving.commands)

    def moving():  # a busy machine may hold up a frame, and then it stops
        return [m for _, m in driving.commands[count:] if m.twist.linear.x]

    assert driving.until(lambda: len(moving()) > 10)
    for command in moving():
        assert to_ns(command.header.stamp) in driving.robot.sent
        assert command.twist.angular.z == pytest.approx(command.twist.linear.x * math.tan(0.2) / 0.36)
    assert driving.until(lambda: state(driving)["state"] == "driving")


def test_nan_steering_stops_with_the_reason_and_good_steering_releases(driving):
    driving.robot.angle, since = math.nan, time.time_ns()
    stops(driving, since)
    command = driving.commands[-1][1]
    assert command.twist.angular.z == 0.0
    assert driving.until(lambda: state(driving) | {"state": "stopped", "reason": "steering is nan"} == state(driving))
    driving.robot.angle = 0.2
    drives(driving)


def test_silence_stops_and_the_stop_is_repeated(driving):
    driving.robot.timer.cancel()
    last = driving.robot.sent[-1]
    stops(driving, last)
    assert driving.until(lambda: "no fresh frame" in state(driving)["reason"])
    assert "/camera/color/camera_info is silent" in state(driving)["reason"]  # the camera's own silence comes first
    count = len(driving.commands)
    assert driving.until(lambda: len(driving.commands) > count + 3)
    assert not any(m.twist.linear.x for _, m in driving.commands[count:])
    driving.robot.timer.reset()
    drives(driving)


def test_an_obstacle_stops_and_its_removal_releases(driving):
    driving.robot.metres, since = 0.3, time.time_ns()
    stops(driving, since)
    assert driving.until(lambda: "obstacle 0.2" in state(driving)["reason"])
    driving.robot.metres = 6.0
    drives(driving)


def test_lost_depth_stops_because_it_is_required(driving):
    driving.robot.metres, since = None, time.time_ns()
    stops(driving, since)
    assert driving.until(lambda: "depth is stale" in state(driving)["reason"])
    driving.robot.metres = 6.0
    drives(driving)


def test_depth_comes_in_metres_and_compressed_from_other_drivers(graph):
    """A ZED sends 32FC1, image_transport compresses it to a / depth + b in a PNG after a header of 12 bytes."""
    cv2 = pytest.importorskip("cv2")
    robot, commands = FakeRobot(graph), graph.listen(TwistStamped, "cmd_vel")
    sent = graph.node.create_publisher(CompressedImage, "/zed/depth/image/compressedDepth", 1)
    infos = graph.node.create_publisher(CameraInfo, "/zed/depth/info", 1)
    k, a, b = [100.0, 0, 80.0, 0, 100.0, 60.0, 0, 0, 1], 1000.0, 0.5

    def look(metres=6.0):
        png = cv2.imencode(".png", np.full((120, 160), round(a / metres + b), np.uint16))[1].tobytes()
        depth = CompressedImage(format="32FC1; compressedDepth png", data=struct.pack("<iff", 0, a, b) + png)
        depth.header.stamp = to_stamp(time.time_ns())
        infos.publish(CameraInfo(width=160, height=120, k=k))
        sent.publish(depth)

    robot.metres, near = None, []
    graph.node.create_timer(1 / 30, lambda: look(0.5 if near else 6.0))
    remap = {"image_raw": "/zed/depth/image/compressedDepth", "camera_info": "/zed/depth/info"}
    renamed = [x for n, t in remap.items() for x in ("-r", f"camera/aligned_depth_to_color/{n}:={t}")]
    guard = graph.start("guard_node", arguments=renamed, **LIMITS)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x == 1.0), guard.log.read_text()
    near.append(True)
    assert graph.until(lambda: commands[-1][1].twist.linear.x == 0.0)
    assert graph.until(lambda: "obstacle 0.38 m" in guard.log.read_text()), guard.log.read_text()


def test_the_log_ends_with_what_the_robot_does_however_soon_it_changes(graph):
    """There is a line a second of each kind: what changes back within that second is told when it is over."""
    robot, commands = FakeRobot(graph), graph.listen(TwistStamped, "cmd_vel")
    guard = graph.start("guard_node", **LIMITS)
    assert graph.until(lambda: commands and commands[-1][1].twist.linear.x > 0.0), guard.log.read_text()
    for _ in range(5):
        robot.angle = math.nan
        assert graph.until(lambda: commands[-1][1].twist.linear.x == 0.0)
        robot.angle = 0.2
        assert graph.until(lambda: commands[-1][1].twist.linear.x > 0.0)
    for angle, last in ((math.nan, "[guard]: stop: "), (0.2, "[guard]: driving")):
        robot.angle = angle
        assert graph.until(lambda last=last: last in guard.log.read_text().splitlines()[-1]), guard.log.read_text()


def test_without_depth_the_reason_names_the_topic_and_where_depth_comes(graph):
    robot, diagnostics = FakeRobot(graph), graph.listen(DiagnosticArray, "/diagnostics")
    robot.metres = None
    elsewhere = graph.node.create_publisher(Image, "/zed/depth/image", 1)
    graph.start("guard_node", arguments=["-r", "camera/aligned_depth_to_color/image_raw:=/zed/depths"], **LIMITS)
    waits = "no depth image on /zed/depths: nobody sends there; such messages come on "

    def reason():
        return (
            next((v.value for v in diagnostics[-1][1].status[0].values if v.key == "reason"), "") if diagnostics else ""
        )

    assert graph.until(lambda: "no depth image yet" in reason() and waits in reason()), reason()
    assert elsewhere.topic_name in reason()


def test_steering_is_found_by_the_name_of_its_joint(driving):
    driving.robot.names = ["left_wheel", "steering"]
    time.sleep(0.3)
    drives(driving)
    driving.robot.names = ["left_wheel"]
    assert driving.until(
        lambda: "no position of the joint 'steering', but of ['left_wheel']" in state(driving)["reason"]
    )
    driving.robot.names = ["steering"]
    drives(driving)


def test_two_nodes_that_send_steering_stop_the_robot_until_one_is_left(driving):
    other = driving.node.create_publisher(JointState, "steering", 5)

    def interfere():
        joint = JointState(name=["steering"], position=[-0.2])
        joint.header.stamp = to_stamp(time.time_ns())
        other.publish(joint)

    timer = driving.node.create_timer(1 / 50, interfere)
    assert driving.until(lambda: "more than one node sends on /steering" in state(driving)["reason"])
    count = len(driving.commands)
    assert driving.until(lambda: len(driving.commands) > count + 30)
    assert not any(m.twist.linear.x for _, m in driving.commands[count:])
    driving.node.destroy_timer(timer)
    assert driving.until(lambda: "2 publishers of /steering: /observer_" in state(driving)["warning"])  # it is silent
    drives(driving)
    driving.node.destroy_publisher(other)
    assert driving.until(lambda: state(driving)["warning"] == "")


def test_another_publisher_of_commands_is_warned_of(driving):
    other = driving.node.create_publisher(TwistStamped, "cmd_vel", 5)
    assert driving.until(lambda: "2 publishers of /cmd_vel: /guard, /observer_" in state(driving)["warning"])
    assert driving.diagnostics[-1][1].status[0].level == DiagnosticStatus.WARN
    driving.node.destroy_publisher(other)
    assert driving.until(lambda: state(driving)["warning"] == "")


def test_a_silent_peer_is_named_when_the_stop_comes(driving):
    robot = driving.robot
    robot.steers, since = False, time.time_ns()
    stops(driving, since)
    assert driving.until(lambda: "frames arrive" in state(driving)["reason"])
    observer = driving.node.get_fully_qualified_name()
    assert "/steering is silent for " in state(driving)["reason"]
    assert f"{observer} is silent or dead" in state(driving)["reason"]
    robot.steers = True
    drives(driving)


def test_deactivated_it_stands_and_leaves_the_base_to_others_until_it_is_activated(driving):
    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return driving.call(ChangeState, "/guard/change_state", request).success

    assert change(Transition.TRANSITION_DEACTIVATE)
    assert driving.until(lambda: speed(driving) == 0.0)
    assert driving.until(lambda: driving.diagnostics[-1][1].status[0].message == "inactive")
    count = len(driving.commands)
    time.sleep(0.5)
    assert len(driving.commands) == count
    assert change(Transition.TRANSITION_ACTIVATE)
    drives(driving)
    assert driving.commands[count][1].twist.linear.x < 0.1  # from rest


def test_limits_change_while_driving_and_bad_ones_are_refused_with_the_reason(driving):
    assert driving.set_parameter("/guard", "speed", 0.5) == (True, "")
    drives(driving, 0.5)
    assert driving.set_parameter("/guard", "speed", 1) == (True, "")  # a whole number is a float, too
    drives(driving, 1.0)
    successful, reason = driving.set_parameter("/guard", "speed", 100.0)
    assert not successful and "speed" in reason and "10" in reason
    successful, reason = driving.set_parameter("/guard", "frame_timeout", math.nan)
    assert not successful and "frame_timeout" in reason
    successful, reason = driving.set_parameter("/guard", "stamped", False)
    assert (
        not successful
        and "stamped, ackermann, follows, qos and the names of frames are in use: deactivate and clean up" in reason
    )
    wheelbase, require = driving.describe("/guard", ["wheelbase", "require_depth"])
    assert wheelbase.description and wheelbase.floating_point_range[0].to_value == 5.0 and require.description


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_its_last_word_is_a_zero_command(driving, number):
    if driving.guard.poll() is not None:
        driving.guard = driving.start("guard_node", **LIMITS)
    drives(driving)
    driving.guard.send_signal(number)
    assert driving.guard.wait(60) == 0
    assert driving.until(lambda: speed(driving) == 0.0)
    assert driving.commands[-2][1].twist.linear.x == 1.0  # it drove until then
    assert "Traceback" not in driving.guard.log.read_text()


def test_shut_down_by_a_person_it_ends_with_a_zero_command(driving):
    driving.guard = driving.start("guard_node", camera_pitch=0.0)
    drives(driving)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
    assert driving.call(ChangeState, "/guard/change_state", request).success
    assert driving.guard.wait(10) == 0
    assert driving.until(lambda: speed(driving) == 0.0, 1.0)


def test_after_kill_9_a_new_guard_drives_again(driving):
    if driving.guard.poll() is not None:
        driving.guard = driving.start("guard_node", **LIMITS)
    drives(driving)
    driving.guard.kill()
    driving.guard.wait(60)
    died = time.time_ns()  # what the dead one had sent may still be on its way, with frames from before
    driving.guard = driving.start("guard_node", **LIMITS)

    def of_the_new_guard():
        return [m for _, m in driving.commands if to_ns(m.header.stamp) > died]

    assert driving.until(of_the_new_guard)
    assert of_the_new_guard()[0].twist.linear.x < 0.1  # from rest, not with the old speed
    drives(driving)


def test_depth_is_taken_in_metres_and_its_true_fault_is_told(graph):
    """REP 118: 32FC1 in m is as good as 16UC1 in mm."""
    graph.commands = graph.listen(TwistStamped, "cmd_vel")
    graph.diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    robot = FakeRobot(graph)
    robot.metres, depth = None, "camera/aligned_depth_to_color"
    images = graph.node.create_publisher(Image, f"{depth}/image_raw", 1)
    infos = graph.node.create_publisher(CameraInfo, f"{depth}/camera_info", 1)
    now = {"encoding": "rgb8", "metres": 6.0, "calibrated": False}

    def publish():
        image = Image(height=120, width=160, encoding=now["encoding"], step=160 * 4)
        image.data = np.full((120, 160), now["metres"], np.float32).tobytes()
        image.header.stamp = to_stamp(time.time_ns())
        images.publish(image)
        if now["calibrated"]:
            infos.publish(CameraInfo(height=120, width=160, k=[100.0, 0.0, 80.0, 0.0, 100.0, 60.0, 0.0, 0.0, 1.0]))

    graph.node.create_timer(1 / 30, publish)
    graph.guard = graph.start("guard_node", camera_pitch=0.0)

    def reason():
        return state(graph)["reason"] if graph.diagnostics else ""

    assert graph.until(lambda: "not usable: expected depth, got 'rgb8': that is a colour image" in reason())
    now["encoding"] = "32FC1"
    expected = "images come, but no camera_info on /camera/aligned_depth_to_color/camera_info"
    assert graph.until(lambda: expected in reason()), reason()
    now["calibrated"] = True
    drives(graph)
    now["metres"] = 0.3
    assert graph.until(lambda: "obstacle 0.2" in reason())


def test_twist_by_parameter_and_simulated_time(graph):
    """Without the clock nothing becomes stale; when it goes on without frames, the robot stops."""
    clock = graph.node.create_publisher(Clock, "/clock", 1)
    commands = graph.listen(Twist, "cmd_vel")
    robot = FakeRobot(graph)
    robot.timer.cancel()
    graph.start("guard_node", use_sim_time=True, stamped=False, camera_pitch=0.0)
    now = 5 * 10**9

    def tick(ms):
        nonlocal now
        now += ms * 10**6
        clock.publish(Clock(clock=to_stamp(now)))

    def frame():
        """One frame and its command: on a busy machine no frame may overtake the clock by more than one tick."""
        tick(33)
        robot.clock_ns, answered = now, len(commands)
        robot.publish()
        graph.until(lambda: len(commands) > answered, 0.5)

    assert graph.until(lambda: frame() or (commands and commands[-1][1].linear.x == 1.0), 60)
    time.sleep(0.6)
    assert commands[-1][1].linear.x == 1.0
    assert graph.until(lambda: tick(20) or time.sleep(0.02) or commands[-1][1].linear.x == 0.0)


LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_it_tells_tf_where_the_mount_has_the_camera_and_tells_it_anew(graph):
    kind = pytest.importorskip("tf2_msgs.msg").TFMessage
    heard = graph.listen(kind, "/tf_static", LATCHED)
    guard = graph.start("guard_node", camera_height=0.3, camera_forward=0.2, frame_prefix="robot1/", **LIMITS)
    assert graph.until(lambda: heard), guard.log.read_text()
    [camera] = heard[-1][1].transforms
    assert (camera.header.frame_id, camera.child_frame_id) == ("robot1/base_link", "robot1/camera_link")
    at = camera.transform.translation
    assert (at.x, at.y, at.z) == pytest.approx((0.2, 0.0, 0.3))
    assert graph.set_parameter("/guard", "camera_pitch", 0.4) == (True, "")
    assert graph.until(lambda: heard[-1][1].transforms[0].transform.rotation.y == pytest.approx(math.sin(0.2)))


def test_the_mount_may_come_from_tf_and_until_it_does_the_robot_stands(graph):
    kind = pytest.importorskip("tf2_msgs.msg").TFMessage
    robot, commands = FakeRobot(graph), graph.listen(TwistStamped, "cmd_vel")
    graph.diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    guard = graph.start("guard_node", mount_from="tf", camera_height=0.4, **LIMITS)
    waits = "not usable: no static transform from base_link to camera in TF (it has none)"
    assert graph.until(lambda: graph.diagnostics and waits in state(graph)["reason"]), guard.log.read_text()
    assert not any(m.twist.linear.x for _, m in commands)
    tell = graph.node.create_publisher(kind, "/tf_static", LATCHED)
    mount = Mount(height=0.3, pitch=0.1)
    tell.publish(kind(transforms=[mounted("base_link", "camera_link", 0.2, mount), optical("camera_link", "camera")]))
    assert graph.until(lambda: commands[-1][1].twist.linear.x == 1.0), guard.log.read_text()
    assert "the camera by TF: 0.200 m ahead, 0.300 m high, 5.7 degrees down" in guard.log.read_text()
    seen = Obstacles(GuardLimits(camera_forward=0.2, **mount.parameters))  # 0.15 m nearer than by the parameters
    seen.update(np.full((120, 160), 450, np.uint16), LENS)
    robot.metres = 0.45
    assert graph.until(lambda: f"obstacle {seen.distance(robot.angle):.2f} m ahead" in state(graph)["reason"])


def say(driving, **request):
    return driving.call(SetBool, "/guard/estop", SetBool.Request(**request))


def test_an_emergency_stop_stands_until_it_is_released_also_when_the_guard_dies(graph):
    """By service; what a launch keeps for the process that comes next is told in `edgeflock_ros.kept`."""
    robot, commands = FakeRobot(graph), graph.listen(TwistStamped, "cmd_vel")
    graph.diagnostics, graph.commands = graph.listen(DiagnosticArray, "/diagnostics"), commands
    kept = graph.folder / "kept"
    kept.mkdir()
    graph.env[KEPT] = str(kept)
    graph.guard = graph.start("guard_node", **LIMITS)
    drives(graph)
    assert say(graph, data=True).success
    assert graph.until(lambda: speed(graph) == 0.0)
    assert graph.until(lambda: "emergency stop, it stands until released: ros2 service call" in state(graph)["reason"])
    graph.guard.kill()
    graph.guard.wait(60)
    died = time.time_ns()
    graph.guard = graph.start("guard_node", **LIMITS)
    assert graph.until(lambda: sum(to_ns(m.header.stamp) > died for _, m in commands) > 20)
    assert not any(m.twist.linear.x for _, m in commands if to_ns(m.header.stamp) > died), len(robot.sent)
    assert say(graph, data=False).success
    drives(graph)


def test_a_button_stops_and_only_a_person_releases_and_not_while_it_is_pressed(graph):
    FakeRobot(graph)
    graph.commands = graph.listen(TwistStamped, "cmd_vel")
    graph.guard = graph.start("guard_node", **LIMITS)
    drives(graph)
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    for qos in (best_effort, 1):
        button = graph.node.create_publisher(Bool, "estop", qos)
        assert graph.until(lambda: button.publish(Bool(data=True)) or speed(graph) == 0.0)  # noqa: B023
        refused = say(graph, data=False)
        assert not refused.success and "/estop says true: release the button first" in refused.message
        assert "release the button first" in graph.set_parameter("/guard", "estop", False)[1]
        count = len(graph.commands)
        button.publish(Bool(data=False))
        assert graph.until(lambda: len(graph.commands) > count + 20)  # noqa: B023
        assert not any(m.twist.linear.x for _, m in graph.commands[count:])
        assert graph.until(lambda: button.publish(Bool(data=False)) or say(graph, data=False).success)  # noqa: B023
        drives(graph)


def test_an_f1tenth_car_gets_the_same_commands_as_ackermann_drive(graph):
    kind = pytest.importorskip("ackermann_msgs.msg").AckermannDriveStamped
    robot, drive = FakeRobot(graph), graph.listen(kind, "drive")
    twists = graph.listen(Twist, "cmd_vel")
    guard = graph.start("guard_node", ackermann=True, stamped=False, **LIMITS)
    assert graph.until(lambda: drive and drive[-1][1].drive.speed == 1.0), guard.log.read_text()
    assert drive[-1][1].drive.steering_angle == pytest.approx(0.2)
    assert drive[-1][1].header.frame_id == "base_link" and to_ns(drive[-1][1].header.stamp) in robot.sent
    robot.metres = 0.3
    assert graph.until(lambda: drive[-1][1].drive.speed == 0.0 and twists[-1][1].linear.x == 0.0)
    robot.metres = 6.0
    assert graph.until(lambda: drive[-1][1].drive.speed == 1.0)
    guard.send_signal(signal.SIGINT)
    assert guard.wait(60) == 0
    assert graph.until(lambda: drive[-1][1].drive.speed == 0.0)


def test_it_stands_between_nav2_and_the_base(graph):
    """Nav2's controller at 20 Hz; the base gets its commands, but none that the camera does not see the way of."""
    robot = FakeRobot(graph)
    robot.steers = False
    graph.commands, graph.diagnostics = graph.listen(Twist, "cmd_vel"), graph.listen(DiagnosticArray, "/diagnostics")
    asked, wanted = graph.node.create_publisher(Twist, "cmd_vel_nav", 1), Twist()
    wanted.linear.x, wanted.angular.z = 0.4, 0.2
    timer = graph.node.create_timer(1 / 20, lambda: asked.publish(wanted))
    guard = graph.start("guard_node", follows="twist", stamped=False, speed=0.6, **LIMITS)

    def sent():
        return (graph.commands[-1][1].linear.x, graph.commands[-1][1].angular.z) if graph.commands else None

    assert graph.until(lambda: sent() == pytest.approx((0.4, 0.2))), guard.log.read_text()
    wanted.linear.x = wanted.angular.z = 2.0
    assert graph.until(lambda: sent() == pytest.approx((0.6, 0.6)))  # its own speed, on the same curve
    for speed, turn, reason in ((-0.3, 0.0, "nothing guards the way back"), (0.0, 1.0, "nothing guards the sides")):
        wanted.linear.x, wanted.angular.z = speed, turn
        assert graph.until(lambda: sent() == (0.0, 0.0) and reason in state(graph)["reason"])  # noqa: B023
    wanted.linear.x, wanted.angular.z = 0.4, 0.0
    assert graph.until(lambda: sent() == pytest.approx((0.4, 0.0)))
    robot.metres = 0.3
    assert graph.until(lambda: sent() == (0.0, 0.0) and "obstacle" in state(graph)["reason"])
    robot.metres = 6.0
    assert graph.until(lambda: sent() == pytest.approx((0.4, 0.0)))
    graph.node.destroy_timer(timer)
    assert graph.until(lambda: sent() == (0.0, 0.0) and "/cmd_vel_nav is silent" in state(graph)["reason"])
