"""The name of every topic, once.

Names are relative, so that a namespace keeps two robots apart, but for those on which ROS agrees.
"""

import re

COLOR = "camera/color"
DEPTH = "camera/aligned_depth_to_color"


def image(stream: str) -> str:
    """The images of a stream (`COLOR`, `DEPTH`), named as realsense2_camera does."""
    return f"{stream}/image_raw"


def info(stream: str) -> str:
    """The calibration of a stream: one message per image, of the same stamp."""
    return f"{stream}/camera_info"


def is_compressed(topic: str) -> bool:
    """Whether a topic has CompressedImage, by the name that image_transport gives it."""
    return topic.rpartition("/")[2] in ("compressed", "compressedDepth")


def info_beside(image: str) -> str:
    """The calibration beside a driver's images: `/cam/camera_info` for `/cam/image_raw` and its `/compressed`."""
    raw = image.rpartition("/")[0] if is_compressed(image) else image
    return f"{raw[: raw.rfind('/') + 1]}camera_info"


STEERING = "steering"
ACKERMANN = "ackermann_cmd"
DRIVER = "driver/steering"
DEADMAN = "driver/deadman"
COMMAND = "cmd_vel"
ASKED = "cmd_vel_nav"
DRIVE = "drive"
ESTOP = "estop"
BOND = "bond"
ODOMETRY = "odom"

COLLISIONS = "sim/collisions"
START = "sim/start"

DIAGNOSTICS = "/diagnostics"
TF = "/tf"
TF_STATIC = "/tf_static"
DESCRIPTION = "robot_description"
CLOCK = "/clock"

HUMANS = "/humans"  # namespace of the faces, in which the next four are; see REP-155
TRACKED = "faces/tracked"
EMOTIONS = "faces/emotions"


def region(face: str) -> str:
    """Where a face is."""
    return f"faces/{face}/roi"


def expression(face: str) -> str:
    """What a face shows."""
    return f"faces/{face}/expression"


ANNOTATED = "~/annotated"

REGISTRATION = "registration"
SLICES = "~/slices"

ANSWERED = "~/answered"
CLASSES = "~/classes"


def net_input(name: str) -> str:
    """An input of a net that is no picture."""
    return f"~/inputs/{_word(name)}"


def net_output(name: str) -> str:
    """An output of a net."""
    return f"~/outputs/{_word(name)}"


def _word(tensor: str) -> str:
    """A tensor's name, which may be none of a topic: `conv/out:0` is `conv_out_0`."""
    word = re.sub(r"\W+|__+", "_", tensor, flags=re.ASCII).strip("_")
    return word if word[:1].isalpha() else f"n{word}"


FLEET = "/fleet"  # all robots of a fleet have these in common
BATTERY = "battery_state"
STATUS = "~/status"

MUSIC_CLOCK = "/music/clock"  # all who dance to one song have it in common
PLAY = "~/play"
REWIND = "~/rewind"
PATH = "path"
TRAJECTORY = "trajectory"
JOINT_TRAJECTORY = "joint_trajectory"


def dancer(number: int) -> str:
    """What the topics of a dancer begin with where one node has those of several; numbers begin with 1."""
    return f"dancer{number}/"


def link(fleet: str, sender: str, receiver: str) -> str:
    """What one robot of a fleet sends another; `fleet` is what its topics begin with."""
    return f"{fleet}/{sender}/to/{receiver}"
