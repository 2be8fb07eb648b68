"""The workstation's part: QAIRT's command lines against programs that record them, operator set 13 for the Nano.

The SDK itself is Qualcomm's and was not run.
"""

import json
import sys

import numpy as np
import onnx
import pytest

from edgeflock.export.targets import compile_bundle
from edgeflock.export.targets.qairt import SKEL, Sdk
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.errors import EngineError, InputError

RECORDER = """#!/usr/bin/env python3
import json, os, pathlib, sys
told = {"argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ)}
home = pathlib.Path(os.environ["QNN_SDK_ROOT"])
said = home / (pathlib.Path(sys.argv[0]).name + ".json")
said.write_text(json.dumps(told))
print("converting")
if (home / "fail").exists():
    sys.exit("ERROR_UNSUPPORTED_OP: Tan")
for word in ("--output_path", "--output_dlc"):
    if word in sys.argv:
        pathlib.Path(sys.argv[sys.argv.index(word) + 1]).write_bytes(b"dlc")
"""


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open(default_bundle())


@pytest.fixture
def sdk(tmp_path, monkeypatch):
    """A folder like QAIRT's, whose tools write down how they were called."""
    root = tmp_path / "qairt" / "2.45.0.260326"
    tools = root / "bin" / "x86_64-linux-clang"
    tools.mkdir(parents=True)
    for tool in ("snpe-onnx-to-dlc", "qairt-quantizer"):
        (tools / tool).write_text(RECORDER)
        (tools / tool).chmod(0o755)
    (root / SKEL).parent.mkdir(parents=True)
    (root / SKEL).touch()
    monkeypatch.setenv("QNN_SDK_ROOT", str(root))
    monkeypatch.delenv("SNPE_ROOT", raising=False)
    return root


def told(sdk, tool):
    return json.loads((sdk / f"{tool}.json").read_text())


def option(argv, name):
    return argv[argv.index(name) + 1]


def test_rb5_without_the_sdk_says_so_and_writes_nothing(bundle, tmp_path, monkeypatch):
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    monkeypatch.delenv("SNPE_ROOT", raising=False)

    made = compile_bundle("rb5", bundle, tmp_path / "out")

    assert made.files == [] and not (tmp_path / "out").exists()
    assert "QNN_SDK_ROOT" in made.did[0] and "CPU" in made.did[0]


def test_rb5_is_converted_and_quantised_by_the_users_sdk(bundle, sdk, tmp_path):
    made = compile_bundle("rb5", bundle, tmp_path / "out", python=sys.executable)

    convert, quantise = told(sdk, "snpe-onnx-to-dlc"), told(sdk, "qairt-quantizer")
    assert option(convert["argv"], "--input_network") == str(bundle.artefact("fp32"))
    assert option(convert["argv"], "--input_dim") == "image"
    assert "1,1,200,200" in convert["argv"] and "NCHW" in convert["argv"]
    assert option(quantise["argv"], "--input_dlc") == option(convert["argv"], "--output_path")
    assert [option(quantise["argv"], f"--{what}_bitwidth") for what in ("act", "weights", "bias")] == ["8"] * 3
    # The SDK's packages, never ours.
    assert quantise["environment"]["PYTHONPATH"] == str(sdk / "lib" / "python")
    assert quantise["environment"]["LD_LIBRARY_PATH"] == str(sdk / "lib" / "x86_64-linux-clang")
    assert [file.exists() for file in made.files] == [True, True]
    assert "libQnnDsp.so" in (tmp_path / "out" / "on_board.sh").read_text()
    assert str(tmp_path / "out") in " ".join(made.on_board)
    assert any("not run" in line for line in made.did)


def test_calibration_inputs_are_float32_files_named_relative_to_the_list(bundle, sdk, tmp_path):
    images = bundle.vectors()["image"]

    compile_bundle("rb5", bundle, tmp_path / "out", python=sys.executable)

    lines = (tmp_path / "out" / "input_list.txt").read_text().splitlines()
    assert len(lines) == len(images)
    name, file = lines[3].split(":=")
    assert name == "image"
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "out" / file, np.float32).reshape(images[3].shape), images[3].astype(np.float32)
    )


def test_a_tool_that_fails_is_quoted_and_leaves_nothing(bundle, sdk, tmp_path):
    (sdk / "fail").touch()

    with pytest.raises(EngineError, match=r"(?s)snpe-onnx-to-dlc of QAIRT 2\.45.* ended with 1.*ERROR_UNSUPPORTED_OP"):
        compile_bundle("rb5", bundle, tmp_path / "out", python=sys.executable)
    assert not (tmp_path / "out").exists()


def test_an_sdk_without_the_v66_or_its_python_is_refused_before_work_starts(bundle, sdk, tmp_path):
    with pytest.raises(InputError, match=r"no-such-python.*--sdk-python"):
        compile_bundle("rb5", bundle, tmp_path / "out", python="no-such-python")
    (sdk / SKEL).unlink()
    with pytest.raises(InputError, match=r"cannot drive the RB5's Hexagon v66"):
        compile_bundle("rb5", bundle, tmp_path / "out", python=sys.executable)
    with pytest.raises(InputError, match="unpacked QAIRT SDK"):
        Sdk.find({"SNPE_ROOT": str(tmp_path)})


def test_a_newer_sdk_is_taken_with_a_warning(bundle, sdk, tmp_path):
    (sdk / "sdk.yaml").write_text("name: qairt\nversion: 2.51.0\n")

    made = compile_bundle("rb5", bundle, tmp_path / "out", python=sys.executable)

    assert any("2.51.0 is newer than 2.45" in line for line in made.did)


def test_nano_gets_operator_set_13_and_the_line_for_trtexec(bundle, tmp_path):
    made = compile_bundle("jetson-nano", bundle, tmp_path / "out")

    (path,) = made.files
    model = onnx.load(path)
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)
    assert "largest difference 0 on" in made.did[0]
    assert "trtexec" in made.on_board[0] and "--fp16" in made.on_board[0]


def test_boards_that_take_the_bundle_as_it_is_get_no_files(bundle, tmp_path):
    assert compile_bundle("cpu-aarch64", bundle, tmp_path / "out").files == []
    assert not (tmp_path / "out").exists()


def test_unknown_target_full_folder_and_wrong_inputs_are_refused(bundle, tmp_path):
    with pytest.raises(InputError, match="no target 'rb6', only cpu-x86_64"):
        compile_bundle("rb6", bundle, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        compile_bundle("rb5", bundle, tmp_path / "full")
    with pytest.raises(InputError, match="inputs must be"):
        compile_bundle("rb5", bundle, tmp_path / "out", feeds={"image": np.zeros((2, 1, 100, 100), np.float32)})
