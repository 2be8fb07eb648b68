"""`edgeflock fleet watch`: where it listens, and where the token lies."""

import socket
import stat

import pytest
import typer
from typer.testing import CliRunner

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.fleet.watch.verb import is_loopback, make_token, read_token, watch


def test_loopback_is_this_machine_alone():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.12", "robot.local")))


def test_a_token_is_made_once_for_this_user_alone(tmp_path):
    path = tmp_path / "edgeflock" / "watch-token"
    make_token(path)
    token = read_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(token) >= 32
    make_token(path)
    assert read_token(path) == token


@pytest.mark.parametrize("content", ["", "short", "pässword-that-is-long-enough"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(tmp_path, content):
    (tmp_path / "token").write_text(content)
    with pytest.raises(InputError, match="openssl rand"):
        read_token(tmp_path / "token")


def test_a_port_in_use_says_what_to_do(log):
    pytest.importorskip("starlette")
    app = typer.Typer()
    app.command()(watch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(app, [str(log().folder), "--listen", listen])
    assert isinstance(done.exception, TransportError) and "--listen" in str(done.exception)
