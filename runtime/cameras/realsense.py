"""Intel RealSense D400 through librealsense: a live camera or a recorded .bag/.db3, by the same pipeline code.

Depth comes aligned to the colour image, so one set of intrinsics holds for both (docs/decisions/0006).
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeflock.runtime.cameras.base import Frame, existing
from edgeflock.runtime.errors import CameraError, MissingExtra
from edgeflock.runtime.intrinsics import Intrinsics

UDEV = "https://github.com/IntelRealSense/librealsense/blob/master/config/99-realsense-libusb.rules"
END_POLL_S = 0.1


def librealsense() -> Any:
    """The module pyrealsense2, also where the system has no libusb-1.0 (the pip package carries one).

    Raises
    ------
    MissingExtra
        pyrealsense2, or both libusb-1.0 and libusb-package, are not installed.
    """
    try:
        import pyrealsense2

        return pyrealsense2
    except ModuleNotFoundError as error:
        raise MissingExtra.pip("the RealSense camera", "realsense", error) from error
    except ImportError:
        import ctypes

        try:
            import libusb_package

            ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
            import pyrealsense2

            return pyrealsense2
        except (ImportError, OSError) as error:
            raise MissingExtra.apt("the RealSense camera", "libusb-1.0-0", error) from error


def devices() -> list[str]:
    """Name and serial of every camera that librealsense sees."""
    rs = librealsense()
    info = rs.camera_info
    return [f"{d.get_info(info.name)} {d.get_info(info.serial_number)}" for d in rs.context().query_devices()]


class RealSenseSource:
    """Colour and aligned depth of a RealSense.

    Parameters
    ----------
    serial : str, optional
        Which live camera; without it the first one.
    path : str or Path, optional
        Recording made with librealsense (.bag; .db3 from 2.57 on) instead of a live camera.
    width, height, fps : int
        Profile of a live camera; a recording has its own.
    real_time : bool
        Play a recording at the pace it was made; False: every frame, as fast as it is read.
    loop : bool
        Start a recording over at its end.

    Raises
    ------
    CameraError
        No camera, no such profile, not a recording, or the recording has no colour stream.
    MissingExtra
        pyrealsense2 is not installed.
    """

    def __init__(
        self,
        serial: str | None = None,
        path: str | Path | None = None,
        width: int = 640,
        height: int = 480,
        fps: int = 30,
        real_time: bool = True,
        loop: bool = False,
    ) -> None:
        self._rs = rs = librealsense()
        self.live = path is None
        config = rs.config()
        if path is None:
            self._choose_camera(config, serial)
            config.enable_stream(rs.stream.color, width, height, rs.format.rgb8, fps)
            config.enable_stream(rs.stream.depth, width, height, rs.format.z16, fps)
            asked = f"{width}x{height} at {fps} Hz"
        else:
            recording = existing(path, "a RealSense recording (.bag or .db3)")
            rs.config.enable_device_from_file(config, str(recording), repeat_playback=loop)
            asked = str(recording)
        self._pipeline = rs.pipeline()
        self._playback: Any = None
        try:
            if not self.live:  # before the start, so that no frame runs past
                device = config.resolve(rs.pipeline_wrapper(self._pipeline)).get_device()
                self._playback = device.as_playback()
                self._playback.set_real_time(real_time)
            profile = self._pipeline.start(config)
        except RuntimeError as error:
            raise CameraError(self._start_failed(asked, error)) from error
        self._running = True
        try:
            self._read_profile(profile, asked)
        except BaseException:
            self.close()
            raise

    def _choose_camera(self, config: Any, serial: str | None) -> None:
        found = devices()
        if not found:
            raise CameraError(
                "expected a RealSense camera on USB, got none. Plug it into a USB 3 port; if `lsusb` shows it (8086:), "
                f"install the udev rules ({UDEV} to /etc/udev/rules.d/, then `sudo udevadm control --reload-rules && "
                "sudo udevadm trigger`). Without a camera give a recording (.bag, .db3) as path."
            )
        if serial:
            if not any(name.split()[-1] == serial for name in found):
                raise CameraError(f"expected the RealSense {serial}, got {', '.join(found)}: give one of these.")
            config.enable_device(serial)

    def _start_failed(self, asked: str, error: RuntimeError) -> str:
        if self.live:
            return (
                f"the RealSense does not start with {asked} ({error}): use a profile that `rs-enumerate-devices` "
                "lists, a USB 3 port, and no second program on the camera."
            )
        return f"expected a RealSense recording (.bag, or .db3 with librealsense >= 2.57), got {asked} ({error})."

    def _read_profile(self, profile: Any, asked: str) -> None:
        rs = self._rs
        videos = [s.as_video_stream_profile() for s in profile.get_streams() if s.is_video_stream_profile()]
        streams = {s.stream_type(): s for s in videos}
        color = streams.get(rs.stream.color)
        if color is None:
            raise CameraError(f"expected a colour stream in {asked}, got {[str(s) for s in streams.values()]}.")
        if color.format() not in (rs.format.rgb8, rs.format.bgr8):
            raise CameraError(f"expected colour as rgb8 or bgr8 in {asked}, got {color.format()}: record it as rgb8.")
        self._bgr = color.format() == rs.format.bgr8
        self.fps = float(color.fps())
        self.intrinsics = _intrinsics(color.get_intrinsics())
        self.depth_intrinsics = self.intrinsics if rs.stream.depth in streams else None
        self._align = rs.align(rs.stream.color)
        device = profile.get_device()
        shape = self.intrinsics.height, self.intrinsics.width
        self._rgb = np.empty((*shape, 3), np.uint8)
        if self.depth_intrinsics is not None:
            # Metres per unit; 0.001 for all D400 presets but the close-range ones.
            self._depth_scale = round(device.first_depth_sensor().get_depth_scale() * 1000.0, 6)
            self._scaled = np.empty(shape, np.float32)
            self._depth = np.empty(shape, np.uint16)
        if self._playback is not None:
            self._playback.pause()  # until the first read: what plays before would be lost
        self._held: Any = None  # keeps librealsense's buffers, which the frame's arrays look into
        self._index = 0

    def read(self, timeout_s: float = 1.0) -> Frame | None:
        """Next colour frame, with the depth of its moment where there is one; None at the end of a recording.

        Raises
        ------
        CameraError
            No frame within `timeout_s` (unplugged, or too little USB bandwidth).
        """
        if self._playback is not None and self._playback.current_status() == self._rs.playback_status.paused:
            self._playback.resume()
        deadline = time.monotonic() + timeout_s
        color = None
        while not color:
            frames = self._next(deadline, timeout_s)
            if frames is None:
                return None
            color = frames.get_color_frame()
        depth = frames.get_depth_frame() if self.depth_intrinsics is not None else None
        if depth and self._one_moment(color, depth):
            frames = self._align.process(frames)
            depth = frames.get_depth_frame()
        else:
            depth = None
        self._held = frames, color, depth
        frame = Frame(self._stamp_ns(color), self._as_rgb(color), self._as_millimetres(depth), self._index)
        self._index += 1
        return frame

    def _one_moment(self, color: Any, depth: Any) -> bool:
        """Whether the two belong together: after a start, a hold-up or the seam of a loop they may not."""
        same_clock = color.get_frame_timestamp_domain() == depth.get_frame_timestamp_domain()
        return not same_clock or abs(color.get_timestamp() - depth.get_timestamp()) * self.fps < 750.0

    def _next(self, deadline: float, timeout_s: float) -> Any:
        """Next set of frames, or None at the end; waits in slices, because the end of a file wakes nobody."""
        while self._running:
            left = deadline - time.monotonic()
            ok, frames = self._pipeline.try_wait_for_frames(max(1, int(1000 * min(left, END_POLL_S))))
            if ok:
                return frames
            if self._playback is not None and self._playback.current_status() == self._rs.playback_status.stopped:
                return None
            if left <= END_POLL_S:
                raise CameraError(
                    f"expected a frame from the RealSense within {timeout_s:.1f} s, got none: check the cable and the "
                    "USB port (`dmesg`), and that no other program holds the camera."
                )
        return None

    def _stamp_ns(self, color: Any) -> int:
        """Exposure time on the host clock; librealsense maps the camera's clock onto it (global time)."""
        if self.live and color.get_frame_timestamp_domain() == self._rs.timestamp_domain.hardware_clock:
            return time.time_ns()
        return int(color.get_timestamp() * 1e6)

    def _as_rgb(self, color: Any) -> np.ndarray:
        image = np.asanyarray(color.get_data())
        if not self._bgr:
            return image
        np.copyto(self._rgb, image[:, :, ::-1])
        return self._rgb

    def _as_millimetres(self, depth: Any) -> np.ndarray | None:
        if not depth:
            return None
        units = np.asanyarray(depth.get_data())
        if self._depth_scale == 1.0:
            return units
        np.multiply(units, np.float32(self._depth_scale), out=self._scaled)
        np.minimum(np.rint(self._scaled, out=self._scaled), 65535, out=self._scaled)
        np.copyto(self._depth, self._scaled, casting="unsafe")
        return self._depth

    def close(self) -> None:
        """Stop the pipeline."""
        if self._running:
            self._running = False
            self._held = None
            with contextlib.suppress(RuntimeError):  # the device may be gone
                self._pipeline.stop()


def _intrinsics(i: Any) -> Intrinsics:
    # Colour of the D400 is "inverse Brown-Conrady": librealsense projects with the same coefficients to the same pixels
    # as OpenCV's plumb_bob, within 0.01 px (tests/calibration/test_capture.py).
    return Intrinsics(i.width, i.height, i.fx, i.fy, i.ppx, i.ppy, "plumb_bob", tuple(float(c) for c in i.coeffs))
