"""Answers of ONNX files, by nothing but numpy and ONNX Runtime: any Python from 3.8, any ONNX Runtime from 1.12.

    python answers.py jobs.json

Each job: {"model": path, "feeds": path of .npz with (N, ...) per input, "options": session entries, "out": .npz}.
"""

import json
import platform
import sys

import numpy as np
import onnxruntime

with open(sys.argv[1]) as file:  # noqa: PTH123 (as old as it must run)
    jobs = json.load(file)
for job in jobs:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in job["options"].items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    feeds = np.load(job["feeds"])
    names = [value.name for value in session.get_inputs()]
    count = len(feeds[names[0]])
    answers = [session.run(None, {n: feeds[n][i : i + 1].astype(np.float32) for n in names}) for i in range(count)]
    outputs = [value.name for value in session.get_outputs()]
    np.savez(job["out"], **{str(k): np.stack([answer[k] for answer in answers]) for k in range(len(outputs))})
print(json.dumps({"machine": platform.machine(), "onnxruntime": onnxruntime.__version__}))
