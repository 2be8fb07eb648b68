"""`edgeflock fleet demo`: what it ends with, what it goes on from, what it refuses and what it leaves alone."""

import pytest
import typer

from edgeflock.runtime.errors import InputError
from edgeflock_lab.demo import verb
from edgeflock_lab.demo.scene import BRIEF, HOMES, alone

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")


@pytest.fixture
def demo(driven, monkeypatch):
    """``demo(ways)``: the command on a folder whose stages are done."""

    def run(ways):
        folder = driven(ways)
        monkeypatch.setattr(verb, "run_stages", lambda *_: {"drive": 1.0})
        verb.demo(folder.path, brief=True, jobs=1, fresh=False)

    return run


def test_it_ends_with_0_where_the_fleet_drives_as_far_and_names_the_next_command(demo, capsys):
    demo({(alone(robot), home): 3.0 for robot in HOMES for home in HOMES if home != robot})
    out = capsys.readouterr().out
    assert "at least as far" in out and "report.html" in out
    assert "next: edgeflock drive --bundle" in out and "r1.pub" in out


def test_it_ends_with_3_where_a_robot_drove_further_alone(demo, capsys):
    with pytest.raises(typer.Exit) as ended:
        demo({("r1-fleet", "r2"): 2.0})
    assert ended.value.exit_code == 3
    assert "drives less far" in capsys.readouterr().out


def test_results_of_another_scene_are_refused_and_stay(folder, monkeypatch):
    monkeypatch.setattr(verb, "run_stages", lambda *_: pytest.fail("went on"))
    folder.path.mkdir()
    other = BRIEF.model_copy(update={"frames": 7}).model_dump_json()
    (folder.path / "scene.json").write_text(other)
    with pytest.raises(InputError, match="frames=7"):
        verb.demo(folder.path, brief=True, jobs=1, fresh=False)
    assert (folder.path / "scene.json").read_text() == other


def test_fresh_removes_what_the_command_wrote_and_nothing_else(folder, monkeypatch):
    class Begun(Exception):
        """The stages would begin."""

    def begin(*_):
        raise Begun

    monkeypatch.setattr(verb, "run_stages", begin)
    (folder.path / "nets/all").mkdir(parents=True)
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(Begun):
        verb.demo(folder.path, brief=True, jobs=1, fresh=True)
    assert not (folder.path / "nets").exists()
    assert (folder.path / "notes.txt").read_text() == "mine"
