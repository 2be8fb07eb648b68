"""A run's folder is looked at before the data, and its export is named after it."""

from pathlib import Path

import pytest

from edgeflock.export.datasets.options import ReadOptions
from edgeflock.export.training.folder import check_run_folder, export_command
from edgeflock.runtime.errors import FileError, InputError


def test_a_run_destroys_neither_its_data_nor_its_start_weights(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "runs").mkdir()
    best = tmp_path / "runs/best.safetensors"
    best.write_bytes(b"x")
    check_run_folder(tmp_path / "runs", [tmp_path / "data", None])
    check_run_folder(tmp_path / "other", [tmp_path / "data"], best)
    with pytest.raises(InputError, match="all of which this command reads"):
        check_run_folder(tmp_path / "data/run", [tmp_path / "data"])
    with pytest.raises(InputError, match=r"best\.safetensors is read by this command"):
        check_run_folder(tmp_path / "runs", [], best)
    with pytest.raises(InputError, match="expected a folder to write into, got the file"):
        check_run_folder(best, [])
    with pytest.raises(FileError, match="cannot write /proc"):
        check_run_folder(Path("/proc/run"), [])


def test_the_export_of_a_run_can_be_pasted():
    line = export_command(
        "steering", Path("runs/a b"), [Path("val")], [Path("x"), None], options=ReadOptions(wheelbase=0.3).words()
    )
    assert line == (
        "next: edgeflock export steering --weights 'runs/a b/best.safetensors' --data val --calib x --wheelbase=0.3 "
        "--training 'runs/a b/result.json' --key FLEET.pem --out BUNDLE"
    )
