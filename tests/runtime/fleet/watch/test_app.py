"""The server of the page, asked over HTTP: what it shows, to whom, and that it changes nothing."""

import json
import urllib.error
import urllib.parse
import urllib.request

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("networkx")  # the verbs of `edgeflock fleet`
TOKEN = "correct-horse-battery-staple"


def ask(url, data=None, **headers):
    """Status, headers and text of an answer; redirects are not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args):
            return None

    request = urllib.request.Request(url, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


@pytest.fixture
def written(log):
    written = log()
    written.mixes(1, heard=["r2"])
    written.validates(1, 0.25)
    written.refuses("r2", "norm", "<script>alert(1)</script>")
    written.stands(written.time, links={"r2": {"sent_bytes": 1234, "received_bytes": 5, "dropped": {"full": 2}}})
    return written


def test_page_state_metrics_and_stream_tell_the_same(written, serve):
    url = serve(written.folder)
    status, headers, page = ask(url)
    assert status == 200 and "hall-3" in page and "0.25" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    state = json.loads(ask(url + "state.json")[2])
    assert state["robots"][0]["model"]["figure"] == 0.25 and state["links"][0]["bytes_ab"] == 1234
    metrics = ask(url + "metrics")[2]
    assert 'edgeflock_fleet_model_figure{metric="rmse",robot="r1",unit="rad"} 0.25' in metrics
    assert 'edgeflock_fleet_link_bytes_total{source="r1",target="r2"} 1234.0' in metrics
    assert 'edgeflock_fleet_rejected_total{peer="r2",reason="norm",robot="r1"} 1.0' in metrics
    with urllib.request.urlopen(url + "stream", timeout=60) as stream:
        assert stream.readline() == b"data: 1\n"
        written.mixes(2, heard=["r2"])
        while (line := stream.readline()) != b"data: 2\n":
            assert line
    assert ask(url + "view?round=1")[2].count("replayed") == 1


def test_nothing_is_taken_but_questions(written, serve):
    url = serve(written.folder)
    before = {path: path.read_bytes() for path in written.folder.iterdir()}
    assert ask(url, b"x")[0] == 405
    assert ask(url + "view?round=-1e99")[0] == 200
    assert ask(url + "../events.jsonl")[0] == 404
    assert {path: path.read_bytes() for path in written.folder.iterdir()} == before


def test_a_strange_page_cannot_ask_in_the_users_name(written, serve):
    """A name that resolves to 127.0.0.1 is not the name of this page."""
    assert ask(serve(written.folder), Host="evil.example")[0] == 400


def test_without_the_token_nothing_is_shown(written, serve, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    url = serve(written.folder, "--token", tmp_path / "token")
    for path in ("", "view", "state.json", "metrics", "stream", "watch.js"):
        status, _, text = ask(url + path)
        assert status == 401 and "hall-3" not in text
        assert ask(url + path, Authorization=f"Bearer {TOKEN[:-1]}")[0] == 401
    assert ask(url, Accept="text/html")[0] == 303
    assert ask(url + "metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    form = urllib.parse.urlencode({"token": "wrong"}).encode()
    assert ask(url + "login", form)[0] == 403
    status, headers, _ = ask(url + "login", urllib.parse.urlencode({"token": TOKEN}).encode())
    cookie = headers["Set-Cookie"]
    assert status == 303 and TOKEN not in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert ask(url, Cookie=cookie.partition(";")[0])[0] == 200
    assert ask(url + "login", b"x" * 10_000)[0] == 413
