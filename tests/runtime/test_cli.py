"""`edgeflock`: verbs from any installed package, one line and an exit code for every refusal, examples in the help."""

import json
import subprocess
import sys
from importlib.metadata import metadata, version
from types import SimpleNamespace

import pytest

from edgeflock.runtime.cli import main
from edgeflock.runtime.commands.registry import registered
from edgeflock.runtime.tasks.family import extra_of

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def run(monkeypatch, capsys):
    """`edgeflock ...` as the console script runs it: exit code, standard output and standard error."""

    def run(*args):
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["edgeflock", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code, out=out, err=err)

    return run


def process(*args):
    command = [sys.executable, "-m", "edgeflock.runtime.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def pub(key):
    return key.with_suffix(".pub")


# ---- edgeflock bundle


def test_keygen_sign_and_verify_are_all_it_takes(run, tmp_path, bundle, home):
    made = run("bundle", "keygen", tmp_path / "mine.pem", "--comment", "hall 3")
    assert made.code == 0 and "hall 3" in (tmp_path / "mine.pub").read_text()
    signed = run("bundle", "sign", bundle, "--key", tmp_path / "mine.pem")
    assert signed.code == 0 and made.out.split()[1].rstrip(":") in signed.out
    (home / ".config/edgeflock/keys").mkdir(parents=True)
    (tmp_path / "mine.pub").rename(home / ".config/edgeflock/keys/mine.pub")
    assert run("bundle", "verify", bundle).code == 0


def test_verify_prints_each_check_and_replays_the_vectors(run, bundle, pub):
    lines = run("bundle", "verify", bundle, "--key", pub).out.splitlines()
    assert all(line.startswith("ok ") for line in lines[:-1]) and lines[-1].startswith("verified ")
    for what in ("schema version", "signed by key", "fadnet_fp32.onnx", "fadnet_int8.onnx", "vectors.safetensors"):
        assert sum(what in line for line in lines) == 1
    assert sum("answers the reference inputs in" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda b: (b / "manifest.json").write_bytes((b / "manifest.json").read_bytes()[:-1]), 10),
        (lambda b: (b / "fadnet_fp32.onnx").unlink(), 11),
        (lambda b: (b / "fadnet_fp32.onnx").write_bytes(b""), 12),
        (lambda b: (b / "manifest.sig").write_bytes(bytes(64)), 13),
        (lambda b: None, 14),
        (lambda b: (b / "manifest.json").write_text('{"schema_version":4}'), 15),
    ],
)
def test_each_refusal_is_one_line_on_stderr_and_its_own_exit_code(run, bundle, pub, harm, code):
    harm(bundle)
    done = run("bundle", "verify", bundle, *([] if code == 14 else ["--key", pub]))
    assert done.code == code
    assert done.err.startswith("edgeflock: ") and done.err.count("\n") == 1
    assert "verified" not in done.out


def test_show_prints_what_the_bundle_holds(run, bundle, pub):
    shown = run("bundle", "show", bundle, "--key", pub).out
    for what in ("FADNet", "int8 (default)", "vectors.safetensors", "320x240", "positive left", "0.05", "yes"):
        assert what in shown


def test_show_says_why_a_bundle_does_not_verify(run, bundle):
    shown = run("bundle", "show", bundle)
    assert shown.code == 0 and "does not trust" in " ".join(shown.out.replace("│", " ").split())


def test_show_json_is_the_manifest_and_the_verdict(run, bundle, pub):
    shown = json.loads(run("bundle", "show", bundle, "--key", pub, "--json").out)
    assert shown["verified"] is True and shown["problem"] is None and len(shown["digest"]) == 64
    assert shown["manifest"] == json.loads((bundle / "manifest.json").read_bytes())
    (bundle / "extra").write_text("")
    shown = json.loads(run("bundle", "show", bundle, "--key", pub, "--json").out)
    assert shown["verified"] is False and "extra is not listed" in shown["problem"]


@pytest.mark.parametrize("verb", ["show", "verify", "sign", "keygen"])
def test_every_help_has_an_example(run, verb):
    assert f"Example: edgeflock bundle {verb}" in run("bundle", verb, "--help").out


# ---- verbs of other packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages: one verb of each kind, one without its extra, one that is slow to import."""
    site = tmp_path / "site"
    info = site / "fleet-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleet\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgeflock.commands]\nhello = fleet_cli:hello\ngroup = fleet_cli:group\nrecorder = fleet_lacks:command [sim]\n"
        "picky = fleet_picky:command\n"
    )
    (site / "fleet_cli.py").write_text(
        "import typer\n"
        "from edgeflock.runtime.errors import GateError\n"
        "group = typer.Typer()\n"
        "@group.command()\ndef only(times: int = 1):\n    'The only verb of the group.'\n    print('only' * times)\n"
        "def hello(name: str = 'world'):\n    'Say hello.'\n"
        "    if name == 'nobody': raise GateError('expected a name, got nobody')\n    print('hello', name)\n"
    )
    (site / "fleet_lacks.py").write_text("import a_package_that_nobody_has\n")
    (site / "fleet_picky.py").write_text(
        "from edgeflock.runtime.errors import MissingExtra\nraise MissingExtra.apt('edgeflock picky', 'libegl1')\n"
    )
    monkeypatch.syspath_prepend(site)
    for name in ("fleet_cli", "fleet_lacks", "fleet_picky"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return site


def test_a_registered_function_is_a_command(run, site):
    assert run("hello", "--name", "robot").out == "hello robot\n"


def test_a_registered_typer_is_a_group_even_with_one_verb(run, site):
    assert run("group", "only", "--times", "2").out == "onlyonly\n"


def test_errors_of_registered_verbs_end_with_their_exit_code(run, site):
    done = run("hello", "--name", "nobody")
    assert (done.code, done.err) == (8, "edgeflock: expected a name, got nobody\n")


def test_help_lists_every_verb_and_what_is_missing(run, site):
    done = run("--help")
    assert done.code == 0
    for what in ("bundle", "Say hello.", "group", "a_package_that_nobody_has", "edgeflock[sim]", "libegl1"):
        assert what in done.out


@pytest.mark.parametrize(
    ("verb", "line"),
    [("recorder", 'pip install "edgeflock[sim]"'), ("picky", "sudo apt-get install -y libegl1")],
)
def test_a_verb_without_its_packages_says_how_to_install_them(run, site, verb, line):
    done = run(verb, "thing", "--seed", "3")
    assert done.code == 4 and line in done.err and "Traceback" not in done.err


def test_a_verb_is_imported_only_when_used(run, site):
    (site / "fleet_lacks.py").write_text("raise SystemExit('imported')")
    assert run("hello").out == "hello world\n"


@pytest.mark.parametrize(
    ("command", "group"),
    [
        ("edgeflock", "edgeflock.commands"),
        ("edgeflock bench", "edgeflock.bench"),
        ("edgeflock calibrate", "edgeflock.calibrate"),
        ("edgeflock export", None),
        ("edgeflock train", None),
    ],
)
def test_the_extra_that_a_verb_names_exists(command, group):
    extras = set(metadata("edgeflock").get_all("Provides-Extra"))
    found = registered(command, group)
    assert found and {extra_of(entry.value) for entry in found.values()} - {None} <= extras


def test_an_unknown_verb_is_a_usage_error(run):
    assert run("fly").code == 2


# ---- the whole


def test_help_loads_nothing_that_takes_long():
    """Its time is no test: a busy machine costs caches, and so processor time."""
    heavy = {"matplotlib", "mujoco", "networkx", "onnx", "onnxruntime", "openvino", "rclpy", "scipy", "torch"}
    script = "import sys; from edgeflock.runtime.cli import main; sys.argv[1:] = ['--help']\ntry: main()\n"
    script += f"finally: print(*{heavy} & sys.modules.keys(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr.split()) == (0, [])


def test_a_process_ends_with_the_exit_code(tmp_path):
    done = process("bundle", "verify", tmp_path)
    assert done.returncode == 11 and done.stderr.startswith("edgeflock: ") and done.stdout == ""


def test_version(run):
    assert run("--version").out == f"edgeflock {version('edgeflock')}\n"


# ---- words that no verb can mean


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bundle", "verify", ""], "argument 3 of edgeflock is empty"),
        (["fleet", "plan", "--network", "gaia", "--json", ""], "the value of --json is empty"),
        (["tune", "--seconds="], "the value of --seconds is empty"),
        (["tune", "--seconds", "inf"], "expected a number for --seconds, got inf"),
        (["fleet", "cycle-time", "--network=gaia", "--jitter=nan"], "expected a number for --jitter, got nan"),
    ],
)
def test_a_word_that_no_verb_can_mean_is_refused_for_all_of_them(run, words, said):
    ended = run(*words)
    assert ended.code == 5 and said in ended.err


@pytest.mark.parametrize(
    ("words", "near"),
    [("bundles", "bundle"), ("bundle verif", "verify"), ("emotions", "emotion"), ("train steerings", "steering")],
)
def test_a_misspelt_verb_names_those_that_are_near_wherever_they_are_registered(run, words, near):
    ended = run(*words.split())
    assert ended.code == 2 and f"Did you mean '{near}'" in ended.err


def test_a_key_needs_a_name(run):
    ended = run("bundle", "keygen", ".")
    assert ended.code == 10 and "expected a private key's name, such as fleet.pem" in ended.err
