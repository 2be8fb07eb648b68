"""What the canonical view costs, by a command."""

import typer
from typer.testing import CliRunner

from edgeflock.runtime.bench.prepare import prepare
from edgeflock.runtime.errors import BundleError

APP = typer.Typer()
APP.command()(prepare)


def test_every_size_is_measured_with_and_without_the_view():
    done = CliRunner().invoke(APP, ["--seconds", "0.05", "--fov", "43"])
    assert done.exit_code == 0, done.output
    assert done.output.count("canonical view") == done.output.count("as it is") == 3
    assert "1280x720" in done.output and "%" in done.output


def test_a_bundle_without_a_trained_camera_has_no_view(bundle, key):
    done = CliRunner().invoke(APP, [str(bundle), "--key", str(key.with_suffix(".pub"))])
    assert isinstance(done.exception, BundleError) and "names none" in str(done.exception)
