"""NVIDIA's driver, called through ctypes: libcuda.so.1 is on every machine with an NVIDIA driver, a Jetson included.

So the TensorRT engine needs no package beside TensorRT itself. Functions and constants are those of cuda.h: every call
here was made to a CPU stand-in that was compiled against the header of CUDA 12.6. No GPU has run it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import numpy as np

from edgeflock.runtime.board.facts import driver_version
from edgeflock.runtime.errors import EngineError

_HOST_PORTABLE = 0x01  # CU_MEMHOSTALLOC_PORTABLE
_STREAM_NON_BLOCKING = 0x1  # CU_STREAM_NON_BLOCKING
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


def gpu_problem() -> str | None:
    """Why no NVIDIA GPU can be used here, with the way out, or None."""
    try:
        gpus = ctypes.c_int()
        driver().call("cuDeviceGetCount", ctypes.byref(gpus))
    except EngineError as error:
        return str(error)
    return None if gpus.value else "the NVIDIA driver sees no GPU: look at `nvidia-smi` and CUDA_VISIBLE_DEVICES."


class Driver:
    """libcuda.so.1, initialised."""

    def __init__(self) -> None:
        try:
            self._lib = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise EngineError(
                f"this machine has no NVIDIA driver ({error}): install it, or use an engine for the CPU."
            ) from error
        self._context = ctypes.c_void_p()
        self.call("cuInit", 0)

    def call(self, function: str, *arguments) -> None:
        """Call a function of the driver; anything but success is an `EngineError` with the driver's own words."""
        if status := getattr(self._lib, function)(*arguments):
            text = ctypes.c_char_p()
            self._lib.cuGetErrorString(status, ctypes.byref(text))
            reason = (text.value or b"unknown error").decode()
            raise EngineError(f"CUDA {function} failed with error {status}: {reason}.")

    def use(self) -> None:
        """Make the primary context of GPU 0, which TensorRT and ONNX Runtime use too, that of the calling thread."""
        if not self._context:
            device = self._device()
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.call("cuCtxSetCurrent", self._context)

    def gpu(self) -> dict[str, str]:
        """What an engine depends on: name and compute capability of GPU 0, and the CUDA version of the driver."""
        device, name, cuda = self._device(), ctypes.create_string_buffer(256), ctypes.c_int()
        self.call("cuDeviceGetName", name, 256, device)
        self.call("cuDriverGetVersion", ctypes.byref(cuda))
        sm = [ctypes.c_int(), ctypes.c_int()]
        for part, attribute in zip(sm, (_CAPABILITY_MAJOR, _CAPABILITY_MINOR), strict=True):
            self.call("cuDeviceGetAttribute", ctypes.byref(part), attribute, device)
        return {
            "gpu": name.value.decode(),
            "sm": f"{sm[0].value}.{sm[1].value}",
            "cuda": f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
            "driver": driver_version(),
        }

    def _device(self) -> ctypes.c_int:
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        return device


@lru_cache(maxsize=1)
def driver() -> Driver:
    """The driver of this process."""
    return Driver()


class _Pinned:
    """Host memory that the GPU copies from and to without a bounce; numpy arrays made of it keep it alive."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._address = ctypes.c_void_p()
        size = math.prod(shape) * dtype.itemsize
        driver().call("cuMemHostAlloc", ctypes.byref(self._address), ctypes.c_size_t(size), _HOST_PORTABLE)
        data = (self._address.value, False)
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": data, "version": 3}

    def __del__(self) -> None:
        if self._address:
            with suppress(EngineError):  # the driver may be gone when the interpreter ends
                driver().call("cuMemFreeHost", self._address)


class DeviceTensors:
    """Inputs and outputs of one net on the GPU, a pinned host array beside each, and the stream that copies them.

    Parameters
    ----------
    feeds : dict of str to ndarray
        The caller's input arrays, read by `upload`.
    outputs : dict of str to (shape, dtype)

    Attributes
    ----------
    outputs : dict of str to ndarray
        Pinned arrays that `download` writes.
    address : dict of str to int
        Device address of each input and output.
    stream : int
        Handle of the CUDA stream.
    """

    def __init__(self, feeds: dict[str, np.ndarray], outputs: dict[str, tuple[tuple[int, ...], np.dtype]]) -> None:
        self._driver = driver()
        self._stream, self._graph = ctypes.c_void_p(), ctypes.c_void_p()
        self._memory: dict[str, ctypes.c_uint64] = {}
        self._driver.use()
        self._driver.call("cuStreamCreate", ctypes.byref(self._stream), _STREAM_NON_BLOCKING)
        self._pairs = [(np.asarray(_Pinned(array.shape, array.dtype)), array) for array in feeds.values()]
        self.outputs = {name: np.asarray(_Pinned(shape, np.dtype(dtype))) for name, (shape, dtype) in outputs.items()}
        staged = dict(zip(feeds, (pinned for pinned, _ in self._pairs), strict=True))
        for name, array in (staged | self.outputs).items():
            self._memory[name] = ctypes.c_uint64()
            self._driver.call("cuMemAlloc_v2", ctypes.byref(self._memory[name]), ctypes.c_size_t(array.nbytes))
        self._up = [self._copy(name, array) for name, array in staged.items()]
        self._down = [self._copy(name, array) for name, array in self.outputs.items()]
        self.address = {name: int(memory.value) for name, memory in self._memory.items()}
        self.stream = int(self._stream.value or 0)

    def _copy(self, name: str, array: np.ndarray) -> tuple[ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t]:
        return self._memory[name], ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)

    def stage(self) -> None:
        """Copy the caller's input arrays into pinned memory; also binds the GPU to the calling thread."""
        self._driver.use()
        for pinned, array in self._pairs:
            np.copyto(pinned, array)

    def enqueue_upload(self) -> None:
        """Queue the copies of the pinned inputs to the GPU."""
        for memory, host, size in self._up:
            self._driver.call("cuMemcpyHtoDAsync_v2", memory, host, size, self._stream)

    def enqueue_download(self) -> None:
        """Queue the copies of the outputs to pinned memory."""
        for memory, host, size in self._down:
            self._driver.call("cuMemcpyDtoHAsync_v2", host, memory, size, self._stream)

    def capture(self, enqueue: Callable[[], None]) -> None:
        """Record what `enqueue` queues on the stream as a CUDA graph for `launch`, without running it."""
        self._driver.use()
        graph = ctypes.c_void_p()
        self._driver.call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THREAD_LOCAL)
        try:
            enqueue()
        finally:
            self._driver.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        self._driver.call("cuGraphInstantiateWithFlags", ctypes.byref(self._graph), graph, ctypes.c_uint64(0))
        self._driver.call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Queue the captured graph."""
        self._driver.call("cuGraphLaunch", self._graph, self._stream)

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self._driver.call("cuStreamSynchronize", self._stream)

    def __del__(self) -> None:
        with suppress(EngineError):
            self._driver.use()
            if self._graph:
                self._driver.call("cuGraphExecDestroy", self._graph)
            for memory in self._memory.values():
                self._driver.call("cuMemFree_v2", memory)
            if self._stream:
                self._driver.call("cuStreamDestroy_v2", self._stream)
