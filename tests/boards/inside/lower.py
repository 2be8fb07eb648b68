"""Lower nets by Qualcomm's own converter, the ir backend of onnxruntime-qnn, with the CPU forbidden.

    python lower.py jobs.json          each job: {"model": path, "folder": where the graph's JSON goes}

The session is never run: this backend only lowers. Errors are answers here, one per job.
"""

import json
import os
import sys

import onnxruntime
import onnxruntime_qnn

with open(sys.argv[1]) as file:  # noqa: PTH123
    jobs = json.load(file)
onnxruntime.register_execution_provider_library("QNNExecutionProvider", onnxruntime_qnn.get_library_path())
device = next(d for d in onnxruntime.get_ep_devices() if d.ep_name == "QNNExecutionProvider")
answers = []
for job in jobs:
    os.makedirs(job["folder"])  # noqa: PTH103
    os.chdir(job["folder"])  # the backend writes its .dlc where it stands
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    told = {"backend_type": "ir", "dump_json_qnn_graph": "1", "json_qnn_graph_dir": job["folder"]}
    options.add_provider_for_devices([device], told)
    try:
        onnxruntime.InferenceSession(job["model"], options, enable_fallback=0)
        answers.append(None)
    except Exception as error:
        answers.append(str(error))
print(json.dumps({"onnxruntime": onnxruntime.__version__, "qnn": onnxruntime_qnn.__version__, "errors": answers}))
