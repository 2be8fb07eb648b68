"""`edgeflock fleet keys` and what `edgeflock fleet join` refuses."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgeflock.runtime.bundle.signing import generate_key
from edgeflock.runtime.errors import BundleError, DataError, InputError
from edgeflock.runtime.fleet.peer.next_plan import read_next_plan
from edgeflock.runtime.fleet.peer.roster import read_roster
from edgeflock.runtime.fleet.plan.schedule import make_plan
from edgeflock.runtime.fleet.verbs import adopt, join, keys_app


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


def test_a_round_that_no_fleet_reaches_is_refused_and_the_roster_stays(fleet, tmp_path):
    before = (fleet / "roster.json").read_bytes()
    done = run("add", fleet, "r1", tmp_path / "r1.pub", "--from-round", 10**20)
    assert done.exit_code == 2 and (fleet / "roster.json").read_bytes() == before


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


@pytest.fixture
def plan(tmp_path):
    made = make_plan(["r1", "r2"], np.array([[0, 3.0], [3.0, 0]]), 1, "ring")
    (tmp_path / "plan.json").write_text(made.to_json())
    return made


def take_over(*words):
    app = typer.Typer()
    app.command()(adopt)
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_a_plan_to_adopt_is_signed_by_the_fleet_and_names_its_round(fleet, plan, tmp_path):
    for name in ("r1", "r2"):
        run("add", fleet, name, tmp_path / f"{name}.pub")
    said = take_over(tmp_path / "plan.json", "--fleet", fleet, "--at-round", 40)
    assert "from round 40 on" in said and "beside roster.json" in said
    public = read_roster(fleet / "roster.json").fleet_key
    found = read_next_plan(fleet / "next-plan.json", "lab", public)
    assert (found.plan.hash, found.at_round) == (plan.hash, 40)
    with pytest.raises(DataError, match="for the run 'lab', this is 'yard'"):
        read_next_plan(fleet / "next-plan.json", "yard", public)
    text = (fleet / "next-plan.json").read_text()
    (fleet / "next-plan.json").write_text(text.replace('"at_round": 40', '"at_round": 4'))
    with pytest.raises(DataError, match="changed after the fleet's key signed it"):
        read_next_plan(fleet / "next-plan.json", "lab", public)


def test_a_plan_with_a_robot_that_has_no_key_in_that_round_is_not_signed(fleet, plan, tmp_path):
    run("add", fleet, "r1", tmp_path / "r1.pub")
    run("add", fleet, "r2", tmp_path / "r2.pub", "--from-round", 50)
    with pytest.raises(InputError, match="the plan names r2, who has no key in force in round 40"):
        take_over(tmp_path / "plan.json", "--fleet", fleet, "--at-round", 40)
    assert not (fleet / "next-plan.json").exists()
