"""Real nodes as processes in a ROS domain of their own, an observer, the installed workspace, and signed bundles."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

WORKSPACE = Path(__file__).parents[2] / "ros2_ws"
CONFIG = WORKSPACE / "src/edgeflock_ros/edgeflock_ros/config"

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
given = [tuple(a.split(":=")) for a in sys.argv[2:]]
service = LaunchService()
include = IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=given)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


class Graph:
    """Nodes in processes, and an observer node that spins in a thread of this process."""

    def __init__(self, folder, home):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from edgeflock_lab.supervisor import free_domain

        self.folder, self.processes = folder, []
        self.env = {**os.environ, "ROS_DOMAIN_ID": str(free_domain()), "HOME": str(home), "OMP_NUM_THREADS": "1"}
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(self.env["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node(f"observer_{folder.name[-8:]}", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self):
        from rclpy.executors import ExternalShutdownException

        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def start(self, module, namespace="", arguments=(), **parameters):
        """Run a module, of fadnet_nav unless it names its package; its output goes to the file `log`."""
        arguments = ["--ros-args", *arguments]
        if namespace:
            arguments += ["-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        log = self.folder / f"{len(self.processes)}_{module}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module if "." in module else f"fadnet_nav.{module}", *arguments],
                env=self.env,
                stdout=out,
                stderr=out,
            )
        process.log = log
        self.processes.append(process)
        return process

    def launch(self, installed, package, name=None, **arguments):
        """Run a package's launch file as `ros2 launch` does, in a process group of its own."""
        file = installed / package / "share" / package / "launch" / f"{name or package}.launch.py"
        given = [f"{key}:={value}" for key, value in arguments.items()]
        sourced = ["bash", "-c", f'. {installed}/local_setup.bash; exec "$@"', "bash"]
        log = self.folder / "launch.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [*sourced, sys.executable, "-c", LAUNCH, file, *given],
                env=self.env,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
            )
        process.log = log
        self.processes.append(process)
        return process

    @staticmethod
    def until(condition, timeout=60.0):
        """Wait for a condition; generous, because the machine may be busy."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.005)
        return False

    def listen(self, kind, topic, qos=100):
        """List that fills with (arrival ns, message)."""
        heard = []
        self.node.create_subscription(kind, topic, lambda message: heard.append((time.time_ns(), message)), qos)
        return heard

    def call(self, kind, service, request, timeout=60.0):
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=timeout), f"no service {service}"
        end, futures = time.monotonic() + timeout, []
        while not (answered := next((f for f in futures if f.done()), None)):
            assert time.monotonic() < end, f"no answer from {service}"
            if not futures or kind.__name__.startswith("Get"):  # a node that has died is listed for a while, but mute
                futures.append(client.call_async(request))
            self.until(lambda: any(f.done() for f in futures), 5)
        self.node.destroy_client(client)
        return answered.result()

    def set_parameter(self, node, name, value):
        """Returns (successful, reason)."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        parameter = Parameter(name, value=value).to_parameter_msg()
        answer = self.call(SetParameters, f"{node}/set_parameters", SetParameters.Request(parameters=[parameter]))
        return answer.results[0].successful, answer.results[0].reason

    def describe(self, node, names):
        from rcl_interfaces.srv import DescribeParameters

        request = DescribeParameters.Request(names=names)
        return self.call(DescribeParameters, f"{node}/describe_parameters", request).descriptors

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.executor.shutdown()
        self.thread.join(60)
        self.node.destroy_node()  # else its clients stay in the domain, and list their services, until it is collected
        self.context.try_shutdown()


@pytest.fixture(scope="session", autouse=True)
def middleware():
    """Loopback only, with a shared-memory segment that VGA frames fit into."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(CONFIG / "loopback.xml"))
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The home of the nodes: it trusts the key of `signed`."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def domain():
    """A ROS domain of its own for one test."""
    supervisor = pytest.importorskip("edgeflock_lab.supervisor")
    return supervisor.free_domain()


@pytest.fixture
def graph(tmp_path, home):
    """A graph of its own for one test."""
    pytest.importorskip("rclpy")
    graph = Graph(tmp_path, home)
    yield graph
    graph.stop()


@pytest.fixture(scope="module")
def shared_graph(tmp_path_factory, home):
    """One graph for the tests of a module."""
    pytest.importorskip("rclpy")
    graph = Graph(tmp_path_factory.mktemp("graph"), home)
    yield graph
    graph.stop()


@pytest.fixture(scope="session")
def signed(home, tmp_path_factory):
    """``signed(manifest, files)``: folder of a bundle that the nodes trust."""
    from edgeflock.runtime.bundle.bundle import generate_key, sign_bundle, write_bundle

    folder = tmp_path_factory.mktemp("bundles")
    generate_key(folder / "key.pem")
    keys = home / ".config/edgeflock/keys"
    keys.mkdir(parents=True)
    (keys / "test.pub").write_text((folder / "key.pub").read_text())
    return lambda manifest, files: sign_bundle(
        write_bundle(folder / manifest.name, manifest, files), folder / "key.pem"
    )


@pytest.fixture(scope="session")
def installed(once):
    """The install folder of a real colcon build of what needs no compiler."""
    pytest.importorskip("colcon_ros")

    def build(folder):
        command = [sys.executable, "-m", "colcon", "--log-base", folder / "log", "build"]
        command += ["--base-paths", WORKSPACE / "src", "--packages-ignore", "edgeflock_msgs"]
        command += ["--build-base", folder / "build", "--install-base", folder / "install"]
        env = {**os.environ, "AMENT_PREFIX_PATH": sys.prefix}
        built = subprocess.run(command, capture_output=True, text=True, env=env)
        assert built.returncode == 0, built.stdout + built.stderr

    return once("colcon", build) / "install"


@pytest.fixture(scope="session")
def steering_bundle(signed):
    """``steering_bundle(name, nodes, constants, images, answers)``: a signed bundle of a net of a few operators.

    `nodes` lead from `mean`, the image's mean, shape (1, 1), to `steering`.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save

    from edgeflock.runtime.bundle.bundle import Artefact, Manifest
    from edgeflock.runtime.prepare.frame import STEERING_INPUT
    from edgeflock.runtime.tasks.steering import STEERING_OUTPUT

    def make(name, nodes, constants, images, answers):
        mean = [("GlobalAveragePool", ["image"], ["pooled"]), ("Flatten", ["pooled"], ["mean"])]
        graph = helper.make_graph(
            [helper.make_node(*node) for node in [*mean, *nodes]],
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 200, 200])],
            [helper.make_tensor_value_info("steering", TensorProto.FLOAT, [1, 1])],
            [numpy_helper.from_array(np.array([[value]], np.float32), key) for key, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        manifest = Manifest(
            name=name,
            net="none",
            task="steering",
            inputs=[STEERING_INPUT],
            outputs=[STEERING_OUTPUT],
            artefacts={"fp32": Artefact(file="net.onnx", opset=17, ir=8)},
            default_precision="fp32",
            training={},
        )
        vectors = {"image": images, "steering_fp32": answers}
        return signed(manifest, {"net.onnx": model.SerializeToString(), "vectors.safetensors": save(vectors)})

    return make


@pytest.fixture(scope="session")
def bundle(steering_bundle):
    """A signed bundle whose net says mean brightness / 255 - 0.5 rad, and NaN to a black image."""
    nodes = [
        ("Div", ["mean", "mean"], ["one"]),  # 0 / 0 for a black image
        ("Div", ["mean", "scale"], ["brightness"]),
        ("Sub", ["brightness", "offset"], ["angle"]),
        ("Mul", ["angle", "one"], ["steering"]),
    ]
    images = np.stack([np.full((1, 200, 200), grey, np.float32) for grey in (100, 200)])
    answers = images.mean((1, 2, 3))[:, None].astype(np.float32) / 255 - 0.5
    return steering_bundle("brightness", nodes, {"scale": 255.0, "offset": 0.5}, images, answers)


@pytest.fixture(scope="session")
def road_bag(write_bag, tmp_path_factory):
    """``road_bag(brightness)``: 3 s of grey frames with free depth at 30 Hz and calibration, to be looped."""
    from edgeflock.runtime.intrinsics import Intrinsics

    lens = Intrinsics(160, 120, 100.0, 100.0, 80.0, 60.0)
    color, depth = "camera/color", "camera/aligned_depth_to_color"
    free = np.full((120, 160), 6000, np.uint16)

    def make(brightness):
        image = np.full((120, 160, 3), brightness, np.uint8)
        messages = [(f"{topic}/camera_info", 10**18, lens) for topic in (color, depth)]
        for n in range(90):
            stamp = 10**18 + n * 33_333_333
            messages += [(f"{depth}/image_raw", stamp, ("16UC1", free)), (f"{color}/image_raw", stamp, ("rgb8", image))]
        return write_bag(tmp_path_factory.mktemp("road") / f"grey{brightness}", messages)

    return make
