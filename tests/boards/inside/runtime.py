"""The edgeflock runtime itself, where it is emulated: verify a bundle, answer its reference inputs, prepare frames.

python runtime.py bundle precision[,precision...] frames.npz out.npz
"""

import json
import platform
import sys

import numpy as np
import onnxruntime

from edgeflock.runtime.prepare.frame import FramePreprocess
from edgeflock.runtime.tasks import open_task

bundle, precisions, frames, out = sys.argv[1:]
deviations = {}
for precision in precisions.split(","):
    task = open_task(bundle, precision=precision, engine="onnxruntime-cpu")
    deviations[precision] = task.deviation
prepare = FramePreprocess(task.bundle.manifest.inputs[0])
given = np.load(frames)
np.savez(out, **{name: prepare(given[name], name.split("-")[0]).copy() for name in given.files})
told = {"machine": platform.machine(), "onnxruntime": onnxruntime.__version__, "deviations": deviations}
print(json.dumps(told | {"engine": task.engine.name}))
