"""A damaged bundle never loads and never takes the interpreter with it: 1,000 mutations, in a process of their own."""

import subprocess
import sys

import pytest

MUTATE = r"""
import random, shutil, sys
from pathlib import Path
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.errors import EdgeflockError

bundle, pub, work, seeds = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), range(int(sys.argv[4]), int(sys.argv[5]))
files = sorted(path.name for path in bundle.iterdir())


def flip(data, rng):
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data, rng):
    del data[rng.randrange(len(data)) :]


def grow(data, rng):
    data.extend(rng.randbytes(rng.choice([1, 7, 4096])))


def drop(data, rng):
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 65)]


def repeat(data, rng):
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 65)]


def junk(data, rng):
    start = rng.randrange(len(data))
    data[start : start + rng.randrange(1, 65)] = rng.randbytes(rng.randrange(65))


def remove(folder, rng):
    (folder / rng.choice(files)).unlink()


def swap(folder, rng):
    a, b = (folder / name for name in rng.sample(files, 2))
    a.rename(folder / "x"), b.rename(a), (folder / "x").rename(b)


def link(folder, rng):
    path = folder / rng.choice(files)
    path.unlink()
    path.symlink_to(bundle / path.name)


def stow(folder, rng):
    (folder / rng.choice(["more.bin", ".hidden", "a b"])).write_bytes(rng.randbytes(9))


def nest(folder, rng):
    (folder / "sub").mkdir()


refused = 0
for seed in seeds:
    rng, folder = random.Random(seed), work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)
    change = rng.choice([flip, flip, flip, cut, grow, drop, repeat, junk, remove, swap, link, stow, nest])
    if change in (remove, swap, link, stow, nest):
        change(folder, rng)
    else:
        path = folder / rng.choice(files)
        before = path.read_bytes()
        data = bytearray(before)
        while bytes(data) == before:  # two flips of one bit, or random bytes that are the old ones
            change(data, rng)
        path.write_bytes(data)
    try:
        Bundle.open(folder, [pub])
    except EdgeflockError:
        refused += 1
    else:
        sys.exit(f"seed {seed}: {change.__name__} was let through")
print(refused)
"""

ARTEFACT = r"""
import random, sys
from pathlib import Path
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import EdgeflockError

good, work = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
for seed in range(100):
    rng, data = random.Random(seed), bytearray(good)
    for _ in range(rng.choice([1, 4, 32])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    (work / "net.onnx").write_bytes(data)
    try:
        OnnxRuntimeEngine(work / "net.onnx", "fp32")
    except EdgeflockError:
        pass
print("alive")
"""


def run(script, *arguments):
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("start", range(0, 1000, 250))
def test_no_mutation_of_any_file_is_let_through(bundle, key, tmp_path, start):
    done = run(MUTATE, bundle, key.with_suffix(".pub"), tmp_path, start, start + 250)
    assert (done.returncode, done.stdout) == (0, "250\n"), done.stderr


def test_a_damaged_net_that_somebody_signed_does_not_take_the_interpreter_with_it(nets, tmp_path):
    done = run(ARTEFACT, nets.fp32, tmp_path)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
