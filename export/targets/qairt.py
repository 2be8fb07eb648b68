"""The RB5's workstation part: Qualcomm's QAIRT (SNPE) SDK, where the user has it.

Commands and bit widths are those that ucb-bar/XPU-RT ran on an RB5 with QAIRT 2.45 (qnn_models/README.md): convert,
quantise to a DLC on x86, make the context on the board with the DSP backend. edgeflock has not run the SDK.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgeflock.export.targets.base import Compilation, Job, Limit, Route
from edgeflock.runtime.errors import EngineError, InputError

TESTED = "2.45"
"""Newest QAIRT that is known to drive a v66 on Linux (boards.md 5.3)."""

HOST = "x86_64-linux-clang"
SKEL = Path("lib/hexagon-v66/unsigned/libQnnDspV66Skel.so")
BOARD_LIBRARIES = "aarch64-oe-linux-gcc9.3"
_LIST = "input_list.txt"

V66 = Route(
    engine="qairt",
    package="qairt",
    version=TESTED,
    precisions=("fp32",),
    opset=17,
    ir=9,
    source="ucb-bar/XPU-RT, qnn_models/README.md",
    limits=(
        Limit("GridSample", "QNN knows 4-D only", rank=5),
        Limit("Conv", "no report of a 3-D convolution on the v66 DSP", rank=5),
        Limit("ConvTranspose", "no report of a 3-D convolution on the v66 DSP", rank=5),
    ),
    note="quantises by itself, from float32 inputs",
)


@dataclass(frozen=True)
class Sdk:
    """An unpacked QAIRT SDK."""

    root: Path
    version: str

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Sdk | None:
        """The SDK of $QNN_SDK_ROOT or $SNPE_ROOT; None where neither is set.

        Raises
        ------
        InputError
            The variable points at something else, or at an SDK without the v66 DSP.
        """
        variable = next((name for name in ("QNN_SDK_ROOT", "SNPE_ROOT") if environment.get(name)), None)
        if variable is None:
            return None
        root = Path(environment[variable])
        if not (root / "bin" / HOST).is_dir():
            raise InputError(f"{variable}={root} has no bin/{HOST}: set it to the folder of the unpacked QAIRT SDK.")
        if not (root / SKEL).is_file():
            raise InputError(
                f"the SDK at {root} has no {SKEL}, so it cannot drive the RB5's Hexagon v66: install QAIRT {TESTED}, "
                f"the newest that is known to have it."
            )
        described = root / "sdk.yaml"
        text = described.read_text() if described.is_file() else root.name
        found = re.search(r"\d+\.\d+(\.\d+)*", text)
        return cls(root, found[0] if found else "unknown")

    @property
    def newer_than_tested(self) -> bool:
        """Whether nobody is known to have run this version on an RB5."""
        from packaging.version import Version

        return self.version == "unknown" or Version(self.version).release[:2] > Version(TESTED).release

    def command(self, names: Sequence[str], python: str, *arguments: str | Path) -> list[str]:
        """Command line of the first of these tools that the SDK has; its Python tools get `python` in front."""
        folder = self.root / "bin" / HOST
        tool = next((folder / name for name in names if (folder / name).is_file()), None)
        if tool is None:
            raise InputError(f"{folder} has none of {', '.join(names)}: install the SDK as a whole (QAIRT {TESTED}).")
        with tool.open("rb") as file:
            script = b"python" in file.readline()
        if script and shutil.which(python) is None:
            raise InputError(
                f"{tool.name} of QAIRT runs in {python}, which is not there: install it with the packages that "
                f"{self.root}/bin/check-python-dependency lists, or name another one with --sdk-python."
            )
        return [*([python] if script else []), str(tool), *map(str, arguments)]

    def run(self, command: Sequence[str], log: Path) -> None:
        """Run a tool in the SDK's own environment and keep what it prints.

        Raises
        ------
        EngineError
            It failed; the message has its last lines.
        """
        environment = os.environ | {
            "QNN_SDK_ROOT": str(self.root),
            "QAIRT_SDK_ROOT": str(self.root),
            "SNPE_ROOT": str(self.root),
            "PYTHONPATH": str(self.root / "lib" / "python"),
            "LD_LIBRARY_PATH": str(self.root / "lib" / HOST),
            "PATH": f"{self.root / 'bin' / HOST}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(command)}\n".encode())
            file.flush()
            done = subprocess.run(
                command, env=environment, cwd=log.parent, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            tool = next(Path(word).name for word in command if word.startswith(str(self.root)))
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise EngineError(
                f"{tool} of QAIRT {self.version} ended with {done.returncode}; all of it is in {log}, its end:\n{tail}"
            )


def compile_rb5(job: Job) -> Compilation:
    """Convert and quantise a net for the v66 DSP with the user's SDK; without it, say so.

    Raises
    ------
    InputError
        The net or the SDK is not one that can work.
    EngineError
        A tool of the SDK failed.
    """
    sdk = Sdk.find()
    if sdk is None:
        return Compilation(
            [],
            [f"no NPU file: set QNN_SDK_ROOT to QAIRT {TESTED}. Until then the RB5 runs int8 on its CPU."],
        )
    source = job.bundle.artefact("fp32")
    model = onnx.load(source)
    if problems := V66.problems(model):
        raise InputError(f"QAIRT will not take {source.name} for the v66 DSP: {'; '.join(problems)}. Use the CPU.")
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    log = job.out / "qairt.log"
    log.unlink(missing_ok=True)
    converted, quantised = job.out / f"{source.stem}.dlc", job.out / f"{source.stem}_v66_int8.dlc"
    count = write_inputs(job.out, shapes, job.feeds)

    described: list[str] = []
    for name, shape in shapes.items():
        described += ["--input_dim", name, ",".join(map(str, shape))]
        described += ["--input_layout", name, "NCHW" if len(shape) == 4 else "NONTRIVIAL"]
    with job.console.status(f"QAIRT {sdk.version} converts {source.name}"):
        convert: list[str | Path] = ["--input_network", source, *described, "--output_path", converted]
        sdk.run(sdk.command(("snpe-onnx-to-dlc",), job.python, *convert), log)
    with job.console.status(f"QAIRT {sdk.version} quantises from {count} inputs"):
        widths = ("--act_bitwidth", "8", "--weights_bitwidth", "8", "--bias_bitwidth", "8")
        quantise = ("--input_dlc", converted, "--output_dlc", quantised, "--input_list", job.out / _LIST, *widths)
        sdk.run(sdk.command(("qairt-quantizer", "snpe-dlc-quant"), job.python, *quantise), log)
    missing = [path for path in (converted, quantised) if not path.is_file()]
    if missing:
        raise EngineError(f"QAIRT {sdk.version} ended well but wrote no {missing[0]}: see {log}.")

    board = job.out / "on_board.sh"
    board.write_text(_ON_BOARD.format(dlc=quantised.name, stem=quantised.stem, list=_LIST))
    did = [f"lowered by the vendor's converter, QAIRT {sdk.version}, quantised from {count} inputs"]
    if sdk.newer_than_tested:
        did.append(f"QAIRT {sdk.version} is newer than {TESTED}: nobody is known to have run it on an RB5")
    did.append("not run: the answers must be compared on the board, a DSP net can answer the same to every input")
    return Compilation(
        [quantised, board],
        did,
        [
            f"scp -r {job.out} root@rb5:",
            f"scp {sdk.root}/lib/{BOARD_LIBRARIES}/libQnn*.so {sdk.root}/{SKEL.parent}/*.so root@rb5:{job.out.name}/",
            f"scp {sdk.root}/bin/{BOARD_LIBRARIES}/qnn-* root@rb5:{job.out.name}/",
            f"ssh root@rb5 sh {job.out.name}/on_board.sh",
        ],
    )


def write_inputs(out: Path, shapes: Mapping[str, Sequence[int]], feeds: Mapping[str, np.ndarray]) -> int:
    """Inputs as QAIRT reads them: float32 raw files, images channels last, one line of `name:=file` per sample.

    Returns
    -------
    int
        Number of samples.
    """
    folder = out / "inputs"
    folder.mkdir(exist_ok=True)
    count = len(next(iter(feeds.values())))
    lines = []
    for i in range(count):
        files = []
        for name, shape in shapes.items():
            value = np.resize(np.asarray(feeds[name][i], np.float32), shape)  # a batch holds the sample B times
            # The converter turns NCHW inputs into NHWC ones.
            (value.transpose(0, 2, 3, 1) if value.ndim == 4 else value).tofile(folder / f"{name}_{i:04}.raw")
            files.append(f"{name}:=inputs/{name}_{i:04}.raw")
        lines.append(" ".join(files))
    (out / _LIST).write_text("\n".join(lines) + "\n")
    return count


_ON_BOARD = """\
#!/bin/sh
# On the RB5: make the DSP's context from the quantised net, then answer the inputs; answers come to results/.
set -eu
cd "$(dirname "$0")"
export LD_LIBRARY_PATH="$PWD" ADSP_LIBRARY_PATH="$PWD;/dsp/cdsp;/dsp"
./qnn-context-binary-generator --backend libQnnDsp.so --model libQnnModelDlc.so --dlc_path {dlc} \\
    --binary_file {stem} --output_dir .
./qnn-net-run --backend libQnnDsp.so --retrieve_context {stem}.bin --input_list {list} --output_dir results
"""
