"""What the board checks share: the emulated boards that .ci/boards sets up, and the table of what was checked."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
BOARDS = Path(os.environ.get("EDGEFLOCK_BOARDS", ROOT / "build" / "boards")).resolve()
INSIDE = Path(__file__).parent / "inside"

V80 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
V82 = f"{V80} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Profile:
    """A processor: qemu's -cpu, and what /proc/cpuinfo must say beside it."""

    cpu: str
    part: str
    features: str

    def cpuinfo(self) -> str:
        """Without a file of its own the program would read the host's, in which onnxruntime finds no Arm core and dies.

        It must agree with -cpu: a part with dot product under a -cpu without it is an illegal instruction.
        """
        core = (
            f"BogoMIPS\t: 38.40\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
            f"CPU variant\t: 0x1\nCPU part\t: {self.part}\nCPU revision\t: 0\n\n"
        )
        return "".join(f"processor\t: {i}\n{core}" for i in range(os.cpu_count() or 1))


PROFILES = {
    "rb5": Profile("cortex-a76", "0xd0d", V82),  # Cortex-A77; qemu 7.2 has the A76, whose instructions are the same
    "nano": Profile("cortex-a57", "0xd07", V80),
}


@pytest.fixture(scope="session")
def emulate():
    """``emulate(profile, rootfs, site, script, *arguments)`` runs a script as the board would: its last line, JSON."""
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        pytest.skip("qemu-aarch64-static is not installed: run .ci/boards")
    for part in ("bookworm", "bullseye", "site-runtime", "site-old", "site-qnn"):
        if not (BOARDS / part).is_dir():
            pytest.skip(f"{BOARDS / part} is not there: run .ci/boards")
    # Import names of the checkout and its entry points, for an interpreter that has no installed edgeflock.
    package = BOARDS / "package" / "edgeflock"
    package.mkdir(parents=True, exist_ok=True)
    for part in ("runtime", "calibration", "export"):
        (package / part).unlink(missing_ok=True)
        (package / part).symlink_to(ROOT / part)
    installed = importlib.metadata.distribution("edgeflock")
    signed_in = package.parent / f"edgeflock-{installed.version}.dist-info"
    signed_in.mkdir(exist_ok=True)
    for file in ("METADATA", "entry_points.txt"):
        (signed_in / file).write_text(installed.read_text(file) or "")

    def run(profile, rootfs, site, script, *arguments):
        board = PROFILES[profile]
        root = BOARDS / f"{rootfs}-{profile}"
        if not (root / "usr").is_dir():
            subprocess.run(["cp", "-al", f"{BOARDS / rootfs}/.", str(root)], check=True)  # hard links: takes no space
        (root / "proc").mkdir(exist_ok=True)
        (root / "proc" / "cpuinfo").write_text(board.cpuinfo())
        python = next(f for f in (root / "usr" / "bin").glob("python3.*") if f.suffix[1:].isdigit())
        environment = {
            "PYTHONPATH": f"{BOARDS / site}:{package.parent}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": str(BOARDS),
        }
        return _run([qemu, "-cpu", board.cpu, "-L", root, python, INSIDE / script, *arguments], environment)

    return run


@pytest.fixture(scope="session")
def emulate_haswell(tmp_path_factory):
    """``emulate_haswell(script, *arguments)``: this very Python on a CPU with AVX2 and without VNNI."""
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None or platform.machine() != "x86_64" or not BOARDS.is_dir():
        pytest.skip("emulated boards are not set up, or this is not an x86-64 machine: run .ci/boards")
    root = tmp_path_factory.mktemp("haswell")
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Haswell\nflags\t\t: fpu sse4_2 avx avx2 fma\n\n"
    )

    def run(script, *arguments):
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        return _run([qemu, "-cpu", "Haswell", "-L", root, sys.executable, INSIDE / script, *arguments], environment)

    return run


def _run(command, environment):
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def here():
    """``here(script, *arguments)``: this Python on this processor, the reference."""
    return lambda script, *arguments: _run([sys.executable, INSIDE / script, *arguments], dict(os.environ))


@pytest.fixture(scope="session")
def answer(tmp_path_factory):
    """``answer(run, models, feeds, options={})``: what `run` (one of the above) makes of models (path) and their feeds.

    Returns what the script told, and for every model its outputs in the order of the graph.
    """

    def ask(run, models, feeds, options=None):
        folder = tmp_path_factory.mktemp("answers")
        jobs = []
        for i, (model, given) in enumerate(zip(models, feeds, strict=True)):
            np.savez(folder / f"{i}-feeds.npz", **given)
            jobs.append(
                {
                    "model": str(model),
                    "feeds": str(folder / f"{i}-feeds.npz"),
                    "options": options or {},
                    "out": str(folder / f"{i}.npz"),
                }
            )
        (folder / "jobs.json").write_text(json.dumps(jobs))
        told = run("answers.py", folder / "jobs.json")
        loaded = [np.load(job["out"]) for job in jobs]
        return told, [[arrays[str(k)] for k in range(len(arrays.files))] for arrays in loaded]

    return ask


@pytest.fixture(scope="session")
def integers(tmp_path_factory):
    """``integers(path)``: the same INT8 net, which also gives out every integer activation."""
    folder = tmp_path_factory.mktemp("integers")

    def expose(path):
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        held = {o.name for o in model.graph.output}
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] not in constants and node.output[0] not in held:
                kind = next(t.data_type for t in model.graph.initializer if t.name == node.input[2])
                model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], kind, None))
        onnx.save(model, folder / path.name)
        return folder / path.name

    return expose


@pytest.fixture(scope="session")
def same_integers():
    """``same_integers(path, mine, theirs)`` compares what a net of `integers` gave on two processors.

    Every integer must agree bit for bit, the answers within 1e-5: the float head adds in another order. Returns the
    result in words.
    """

    def compare(path, mine, theirs):
        distances = []
        for output, a, b in zip(onnx.load(path).graph.output, mine, theirs, strict=True):
            if a.dtype == np.float32:
                distances.append(float(np.abs(a - b).max()))
            else:
                np.testing.assert_array_equal(b, a, err_msg=f"{path.name}: {output.name}")
        assert len(distances) < len(mine), f"{path.name} gives out no integer tensor"
        assert max(distances) <= 1e-5, f"{path.name}: answers differ by {max(distances):.2g}"
        return f"every integer bit-equal; answers within {max(distances):.1g}"

    return compare


@pytest.fixture(scope="session")
def nets():
    """``nets.path(net, form)``, ``nets.feeds(net)`` and ``nets.failed``: what tests/boards/nets.py made."""
    stamp = BOARDS / "nets" / "made.json"
    if not stamp.is_file():
        pytest.skip(f"{stamp} is not there: run .ci/boards")
    return SimpleNamespace(
        path=lambda net, form: stamp.with_name(f"{net}_{form}.onnx"),
        feeds=lambda net: dict(np.load(stamp.with_name(f"{net}.npz"))),
        failed=json.loads(stamp.read_text())["failed"],
    )


CHECKED = pytest.StashKey[list]()


@pytest.fixture
def checked(request):
    """``checked(where, net, form, words, detail="")`` puts a line into the table of what was checked."""
    return lambda *line: request.config.stash.setdefault(CHECKED, []).append([*line, ""][:5])


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash.get(CHECKED, [])
    if not lines:
        return
    groups = defaultdict(list)
    for where, net, form, words, detail in lines:
        groups[where, form, words, detail].append(net)
    rows = [[where, form, ", ".join(found), words, detail] for (where, form, words, detail), found in groups.items()]
    head = ["where", "form", "nets", "what was done", "result"]
    text = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    terminalreporter.section("board checks")
    terminalreporter.write_line("\n".join(text))
    if page := os.environ.get("EDGEFLOCK_BOARD_TABLE"):
        document = Path(page).read_text()
        before, rest = document.split(BEGIN)
        Path(page).write_text("\n".join([before + BEGIN, "", *text, "", END + rest.split(END)[1]]))


BEGIN, END = "<!-- .ci/boards -->", "<!-- end -->"
