"""`edgeflock fleet keys` and what `edgeflock fleet join` refuses."""

import pytest
import typer
from typer.testing import CliRunner

from edgeflock.runtime.bundle.signing import generate_key
from edgeflock.runtime.errors import BundleError, DataError, InputError
from edgeflock.runtime.fleet.peer.roster import read_roster
from edgeflock.runtime.fleet.verbs import join, keys_app


def run(*args):
    done = CliRunner().invoke(keys_app, [str(a) for a in args])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def fleet(tmp_path):
    run("init", tmp_path / "fleet", "--run", "lab")
    for name in ("r1", "r2"):
        generate_key(tmp_path / f"{name}.pem")
    return tmp_path / "fleet"


def roster_of(fleet):
    return read_roster(fleet / "roster.json").roster


def test_a_roster_grows_shrinks_and_changes_keys(fleet, tmp_path):
    run("add", fleet, "r1", tmp_path / "r1.pub")
    run("rotate", fleet, "r1", tmp_path / "r2.pub", "--at-round", 5)
    run("revoke", fleet, "r1", "--at-round", 9)
    roster = roster_of(fleet)
    assert [roster.members(k) for k in (0, 5, 9)] == [("r1",), ("r1",), ()]
    assert roster.serial == 4


def test_show_names_robots_rounds_and_the_key_that_signed(fleet, tmp_path):
    run("add", fleet, "r1", tmp_path / "r1.pub", "--from-round", 3)
    shown = run("show", fleet).stdout
    assert "run lab, serial 2" in shown and "r1" in shown and "signed by the fleet key" in shown


def test_a_fleet_is_not_made_twice_and_no_key_is_lost(fleet):
    before = (fleet / "fleet.pem").read_bytes()
    with pytest.raises(InputError, match="keys add"):
        run("init", fleet, "--run", "lab")
    assert (fleet / "fleet.pem").read_bytes() == before


def test_a_bad_name_is_refused_before_anything_is_written(fleet, tmp_path):
    with pytest.raises(InputError, match="cannot name a run"):
        run("init", tmp_path / "other", "--run", "a b")
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="cannot name a peer"):
        run("add", fleet, "robot-1", tmp_path / "r1.pub")
    assert roster_of(fleet).serial == 1


def test_a_private_key_in_place_of_the_public_one_is_refused(fleet, tmp_path):
    with pytest.raises(BundleError, match="public key"):
        run("add", fleet, "r1", tmp_path / "r1.pem")


def test_a_folder_without_a_roster_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="fleet keys init"):
        run("show", tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--peer", "r2"], "expected NAME=HOST:PORT"),
        (["--peer", "r2=host"], "expected HOST:PORT"),
        (["--peer", "r2=host:70000"], "expected HOST:PORT"),
        (["--peer", "r2=h:1", "--task", "nothing"], "no learning task 'nothing'"),
        (["--peer", "r2=h:1", "--set", "kep=1"], "expected KEY=VALUE with one of the keys"),
        (
            ["--peer", "r2=h:1", "--task", "emotion", "--set", "size=9"],
            "size: expected greater than or equal to 32, got 9",
        ),
        (["--peer", "r2=h:1", "--set", "credit=1"], "credit"),
    ],
)
def test_join_refuses_what_it_cannot_use_before_anything_starts(fleet, tmp_path, options, said):
    app = typer.Typer()
    app.command()(join)
    pytest.importorskip("torch")
    files = ["--key", "k", "--roster", fleet / "roster.json", "--plan", "p", "--data", "d", "--val", "v"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [str(a) for a in ["r1", *files, "--out", out, *options]])
    assert isinstance(done.exception, InputError) and said in str(done.exception)
    assert not out.exists()
