"""Recordings and bundles that several test folders need, all made on the spot by the real libraries."""

import atexit
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

# Calibration keeps what it saw by content: tests neither find nor leave anything in the home of whoever runs them.
os.environ["EDGEFLOCK_CACHE"] = tempfile.mkdtemp(prefix="edgeflock-cache-")
atexit.register(shutil.rmtree, os.environ["EDGEFLOCK_CACHE"], ignore_errors=True)
# mujoco chooses its renderer when it is imported, and any test module may import it first.
os.environ.setdefault("MUJOCO_GL", "egl")
# A shell without job control starts `pytest &` with SIGINT ignored, nohup ignores SIGHUP, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Fixtures of several rooms, and `quadratic`, which processes of simulations import too.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "export/fleet")]
pytest_plugins = ["fixtures.bundles", "fixtures.dances", "fixtures.faces", "fixtures.fleets", "fixtures.nets"]


@pytest.hookimpl(optionalhook=True)  # xdist is not there where the runtime is tested alone
def pytest_xdist_auto_num_workers(config):
    """Workers of `-n auto` (pyproject.toml): the whole suite is dealt out, a part of it runs in this process.

    One more than there are cores: many a test waits for its processes.
    """
    whole = {Path(argument).resolve() for argument in config.args} == {Path(__file__).parent}
    if not whole or config.option.usepdb:
        return 0
    # Workers would start as many threads as there are cores each; BLAS reads this when a worker loads numpy.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return min(os.cpu_count() or 1, 4) + 1


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """``once(name, make)``: a folder that ``make(folder)`` has filled, once for all workers of xdist."""
    own = tmp_path_factory.getbasetemp()
    everyones = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def get(name, make):
        folder, done = everyones / name, everyones / f"{name}.done"
        with (everyones / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def record_realsense():
    """``record(path, frames, depth_units=0.001, fps=30, color=True)`` writes what a D435 would have recorded.

    librealsense's software device feeds its own recorder: `frames` are pairs of rgb uint8 (h, w, 3) and depth uint16
    (h, w) in depth units; playback keeps the pace of the recording. The returned dict has the intrinsics.
    """
    from edgeflock.runtime.cameras.realsense import librealsense
    from edgeflock.runtime.errors import MissingExtra

    try:
        rs = librealsense()
    except MissingExtra as error:
        pytest.skip(str(error))

    def record(path, frames, depth_units=0.001, fps=30, color=True):
        device = rs.software_device()
        for info, value in (
            (rs.camera_info.name, "Synthetic D435"),
            (rs.camera_info.serial_number, "SYN0001"),
            (rs.camera_info.product_line, "D400"),
        ):
            device.register_info(info, value)
        height, width = frames[0][1].shape
        focal = 0.9 * width
        lens = {"width": width, "height": height, "ppx": width / 2, "ppy": height / 2, "fx": focal, "fy": focal}

        def profile(sensor, kind, uid, bpp, fmt):
            stream = rs.video_stream()
            stream.type, stream.index, stream.uid = kind, 0, uid
            stream.width, stream.height, stream.fps, stream.bpp, stream.fmt = width, height, fps, bpp, fmt
            intrinsics = rs.intrinsics()
            for name, value in lens.items():
                setattr(intrinsics, name, value)
            intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0] * 5
            stream.intrinsics = intrinsics
            return sensor.add_video_stream(stream, True).as_video_stream_profile()

        depth_sensor = device.add_sensor("Stereo Module")
        streams = [(profile(depth_sensor, rs.stream.depth, 0, 2, rs.format.z16), depth_sensor, 1)]
        depth_sensor.add_read_only_option(rs.option.depth_units, depth_units)
        if color:
            color_sensor = device.add_sensor("RGB Camera")
            streams.insert(0, (profile(color_sensor, rs.stream.color, 1, 3, rs.format.rgb8), color_sensor, 0))
            same_place = rs.extrinsics()
            same_place.rotation, same_place.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
            streams[1][0].register_extrinsics_to(streams[0][0], same_place)

        recorder = rs.recorder(str(path), device)
        sensors, queue = recorder.query_sensors(), rs.frame_queue(50)
        for sensor in sensors:
            sensor.open(sensor.get_stream_profiles()[0])
            sensor.start(queue)
        for n, pair in enumerate(frames):
            for stream, sensor, which in streams:
                pixels = pair[which]
                frame = rs.software_video_frame()
                frame.pixels, frame.stride, frame.bpp = pixels, pixels.strides[0], pixels.strides[1]
                frame.timestamp, frame.domain = n * 1000 / fps, rs.timestamp_domain.system_time
                frame.frame_number, frame.profile = n, stream
                if which == 1:
                    frame.depth_units = depth_units
                sensor.on_video_frame(frame)
            time.sleep(1 / fps)
        for sensor in sensors:
            sensor.stop()
            sensor.close()
        del recorder  # finalises the file
        return lens

    return record


@pytest.fixture(scope="session")
def scenes():
    """Twelve pairs of noise image and flat depth, (240, 320), each with its own depth."""
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 256, (240, 320, 3), np.uint8), np.full((240, 320), 1000 + 100 * n, np.uint16))
        for n in range(12)
    ]


@pytest.fixture(scope="session")
def realsense_recording(record_realsense, scenes, tmp_path_factory):
    """A recording of `scenes`: path, scenes, lens."""
    from types import SimpleNamespace

    path = tmp_path_factory.mktemp("realsense") / "run.db3"
    return SimpleNamespace(path=path, lens=record_realsense(path, scenes), scenes=scenes)


@pytest.fixture(scope="session")
def write_bag():
    """``write(path, messages, storage="mcap")`` writes a rosbag2 of (topic, stamp_ns, message) with rosbags.

    `message` is (encoding, array) for an Image (dtype and shape say the rest), (format, bytes) for a CompressedImage,
    or an Intrinsics for a CameraInfo.
    """
    rosbags = pytest.importorskip("rosbags.rosbag2")
    from rosbags.typesys import Stores, get_typestore

    from edgeflock.runtime.intrinsics import Intrinsics

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types

    def build(stamp_ns, content):
        stamp = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        header = types["std_msgs/msg/Header"](stamp, "camera")
        if isinstance(content, Intrinsics):
            i = content
            k = np.array([i.fx, 0, i.cx, 0, i.fy, i.cy, 0, 0, 1], float)
            p = np.array([i.fx, 0, i.cx, 0, 0, i.fy, i.cy, 0, 0, 0, 1, 0], float)
            roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            d, r = np.array(i.coeffs, float), np.eye(3).ravel()
            return types["sensor_msgs/msg/CameraInfo"](header, i.height, i.width, i.model, d, k, r, p, 0, 0, roi)
        encoding, data = content
        if isinstance(data, bytes):
            return types["sensor_msgs/msg/CompressedImage"](header, encoding, np.frombuffer(data, np.uint8))
        step = data.strides[0]  # a padded array makes padded rows
        rows = np.lib.stride_tricks.as_strided(data.view(np.uint8), (data.shape[0], step), (step, 1))
        return types["sensor_msgs/msg/Image"](header, *data.shape[:2], encoding, 0, step, rows.ravel().copy())

    def write(path, messages, storage="mcap"):
        plugin = rosbags.StoragePlugin.MCAP if storage == "mcap" else rosbags.StoragePlugin.SQLITE3
        with rosbags.Writer(path, version=9, storage_plugin=plugin) as writer:
            connections = {}
            for topic, stamp_ns, content in messages:
                message = build(stamp_ns, content)
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
                writer.write(connections[topic], stamp_ns, store.serialize_cdr(message, message.__msgtype__))
        return path

    return write
