"""`edgeflock faces get`: over a real HTTP server on loopback; nothing is written that is not known."""

from __future__ import annotations

import http.server
import threading
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from edgeflock.runtime.commands.faces import faces_app
from edgeflock.runtime.errors import FileError, InputError
from edgeflock.runtime.faces import open_detector, yunet_file
from edgeflock.runtime.faces.yunet import YuNetDetector


@pytest.fixture
def zoo(known, monkeypatch):
    """A server that has the file at `address`; `paths` are what it was asked for, `cut` lets it stop in the middle."""
    content = known.read_bytes()
    server = SimpleNamespace(paths=[], cut=False)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.paths.append(self.path)
            if self.path != "/made.onnx":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if server.cut else content)

        def log_message(self, *_):
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as opened:
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        server.address = f"http://127.0.0.1:{opened.server_port}/made.onnx"
        monkeypatch.setattr(yunet_file, "ADDRESS", server.address)
        yield server
        opened.shutdown()


def run(*arguments) -> str:
    result = CliRunner().invoke(faces_app, ["get", *map(str, arguments)])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.output


def test_the_file_is_fetched_once_its_licence_shown_and_auto_takes_it(zoo, faces_folder, known) -> None:
    shown = run()
    assert (faces_folder / "made.onnx").read_bytes() == known.read_bytes()
    assert "a free one" in shown and str(faces_folder / "made.onnx") in shown and "next: edgeflock emotion" in shown
    assert isinstance(open_detector(), YuNetDetector)
    assert "a free one" in run() and zoo.paths == ["/made.onnx"]


def test_a_copy_or_a_mirror_serves_as_well(zoo, faces_folder, known) -> None:
    run("--from", known)
    assert (faces_folder / "made.onnx").is_file() and not zoo.paths
    run("--from", zoo.address)
    assert zoo.paths == ["/made.onnx"]


def test_without_a_network_it_is_said_which_file_to_copy_from_where(zoo, faces_folder, monkeypatch) -> None:
    monkeypatch.setattr(yunet_file, "ADDRESS", "http://127.0.0.1:9/made.onnx")  # nobody answers there
    with pytest.raises(FileError, match=f"127.0.0.1:9/made.onnx cannot .* copy {yunet_file.ZOO.name} .* --from"):
        run()
    with pytest.raises(FileError, match="Not Found"):
        run("--from", zoo.address + "x")
    assert list(faces_folder.iterdir()) == []


def test_what_is_cut_off_on_its_way_is_not_written(zoo, faces_folder) -> None:
    zoo.cut = True
    with pytest.raises((InputError, FileError)):
        run()
    assert list(faces_folder.iterdir()) == []


def test_another_file_is_refused_and_the_one_that_was_there_stays(zoo, faces_folder, known, tmp_path) -> None:
    run()
    (tmp_path / "other.onnx").write_bytes(known.read_bytes() + b"!")
    with pytest.raises(InputError, match="expected YuNet's file by its SHA-256"):
        run("--from", tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"got .*nowhere.onnx, which is none"):
        run("--from", tmp_path / "nowhere.onnx")
    assert [path.name for path in faces_folder.iterdir()] == ["made.onnx"]


def test_the_authors_own_file_is_known(real_yunet, faces_folder) -> None:
    assert "Apache-2.0" in run("--from", real_yunet)
    assert isinstance(open_detector(), YuNetDetector)
