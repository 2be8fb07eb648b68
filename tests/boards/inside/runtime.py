"""The edgeflock runtime itself, where it is emulated: verify a bundle, answer its reference inputs, prepare frames.

python runtime.py bundle precision[,precision...] frames.npz out.npz
"""

import json
import platform
import sys

import numpy as np
import onnxruntime

from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.frame import FramePreprocess
from edgeflock.runtime.tasks import open_task

bundle, precisions, frames, out = sys.argv[1:]
deviations = {}
for precision in precisions.split(","):
    task = open_task(bundle, precision=precision, engine="onnxruntime-cpu")
    deviations[precision] = task.deviation
prepare = FramePreprocess(task.bundle.manifest.inputs[0])
given = np.load(frames)
prepared = {name: prepare(given[name], name.split("-")[0]).copy() for name in given.files}
mount, fisheye = Mount(height=0.25, pitch=0.3, yaw=0.05), (-0.02, 0.004, -0.002, 0.0003)
prepare.look_through(
    task.bundle.manifest.trained_camera, Intrinsics(640, 480, 300.0, 300.0, 322.0, 236.0, "equidistant", fisheye), mount
)
prepared["view"] = prepare(given["rgb8-camera"])
np.savez(out, **prepared)
told = {"machine": platform.machine(), "onnxruntime": onnxruntime.__version__, "deviations": deviations}
print(json.dumps(told | {"engine": task.engine.name}))
