"""`edgeflock`, the command line: thin, every verb calls one function.

Verbs of other packages come through the entry-point group `edgeflock.commands`: `edgeflock.runtime.commands.registry`.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from edgeflock.runtime.bench.cli import bench_app
from edgeflock.runtime.bench.tune import tune_command
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle, generate_key, read_manifest, sign_bundle
from edgeflock.runtime.bundle.manifest import GateReport, Manifest
from edgeflock.runtime.commands.doctor import doctor
from edgeflock.runtime.commands.faces import faces_app
from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import BundleError, end_with
from edgeflock.runtime.options import Keys, check_words

app = typer.Typer(
    cls=verbs("edgeflock", "edgeflock.commands"),
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeflock {version('edgeflock')}")
        raise typer.Exit


@app.callback(epilog="Example: edgeflock bundle verify")
def edgeflock(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Small vision nets on robot boards, and robots that go on learning together."""


app.command(epilog="Example: edgeflock doctor --json")(doctor)
app.command("tune", epilog="Example: edgeflock tune my_bundle --hz 30")(tune_command)

app.add_typer(bench_app, name="bench")
app.add_typer(faces_app, name="faces")

# ---- edgeflock bundle

bundle_app = typer.Typer(no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")

BundlePath = Annotated[Path | None, typer.Argument(help="Bundle folder; by default the one that ships with edgeflock.")]


@bundle_app.callback(epilog="Example: edgeflock bundle show")
def bundle() -> None:
    """Look at, verify and sign bundles: the signed folders that a robot drives with."""


@bundle_app.command(epilog="Example: edgeflock bundle show --json | jq .manifest.training")
def show(
    path: BundlePath = None,
    key: Keys = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what a bundle holds and whether it verifies."""
    path = path or default_bundle()
    manifest, digest = read_manifest(path)
    try:
        Bundle.open(path, key)
        problem = None
    except BundleError as error:
        problem = str(error)
    if as_json:
        found = {"path": str(path), "digest": digest, "verified": problem is None, "problem": problem}
        typer.echo(json.dumps(found | {"manifest": manifest.model_dump(mode="json")}, indent=2, ensure_ascii=False))
    else:
        _print_manifest(manifest, digest, problem)


@bundle_app.command(epilog="Example: edgeflock bundle verify /opt/bundles/steering --key fleet.pub")
def verify(path: BundlePath = None, key: Keys = None) -> None:
    """Check signature and files, then let this board answer the reference images."""

    def passed(text: str) -> None:
        typer.echo(f"{typer.style('ok', fg='green')} {text}")

    from edgeflock.runtime.engines import REFERENCE
    from edgeflock.runtime.tasks import open_task

    opened = Bundle.open(path or default_bundle(), key, passed)
    for precision in opened.manifest.artefacts:
        task = open_task(opened, precision, engine=REFERENCE)
        unit = opened.manifest.outputs[0].unit
        within = f"{task.deviation:.1g} {unit}".rstrip()
        passed(f"{task.engine.name} answers the reference inputs in {precision} within {within}")
    typer.echo(f"{typer.style('verified', fg='green', bold=True)} {opened.path}, SHA-256 {opened.digest}")


@bundle_app.command(epilog="Example: edgeflock bundle sign my_bundle --key fleet.pem")
def sign(
    path: Annotated[Path, typer.Argument(help="Bundle folder.")],
    key: Annotated[Path, typer.Option("--key", help="Private key, as `bundle keygen` writes it.")],
) -> None:
    """Check the files of a bundle and sign its manifest."""
    manifest, digest = read_manifest(sign_bundle(path, key))
    typer.echo(f"signed {path} with key {manifest.key_id}, SHA-256 {digest}")


@bundle_app.command(epilog="Example: edgeflock bundle keygen fleet.pem --comment 'robots of hall 3'")
def keygen(
    path: Annotated[Path, typer.Argument(help="Private key to write; the public one goes beside it as .pub.")],
    comment: Annotated[str, typer.Option(help="Whose key it is; stands in the .pub file.")] = "",
) -> None:
    """Make a key pair for signing bundles."""
    made = generate_key(path, comment)
    typer.echo(f"key {made.key_id}: keep {path} secret, copy {made.source} to ~/.config/edgeflock/keys of each robot")


def _print_manifest(manifest: Manifest, digest: str, problem: str | None) -> None:
    facts = Table("", Column(overflow="fold"), show_header=False, title=f"bundle {manifest.name}", title_justify="left")
    facts.add_row("net", f"{manifest.net}, task {manifest.task}")
    for spec in manifest.inputs:
        facts.add_row(f"input {spec.name}", str(spec))
    for out in manifest.outputs:
        facts.add_row(
            f"output {out.name}",
            f"{out.dtype} {list(out.shape)} {out.unit}"
            + (f", positive {out.positive}" if out.positive else "")
            + (f", {', '.join(out.labels)}" if out.labels else ""),
        )
    if manifest.trained_camera:
        facts.add_row("trained camera", str(manifest.trained_camera))
    for name, value in manifest.training.model_dump(exclude_defaults=True).items():
        facts.add_row(f"training {name}", value if isinstance(value, str) else json.dumps(value))
    for name, value in manifest.provenance.items():
        facts.add_row(name, value if isinstance(value, str) else json.dumps(value))
    facts.add_row("made", manifest.created)
    facts.add_row("made with", ", ".join(f"{tool} {release}" for tool, release in manifest.tool_versions.items()))
    facts.add_row("SHA-256", digest)
    facts.add_row("key", manifest.key_id or "none")
    facts.add_row("verified", Text(f"no: {problem}", "red") if problem else Text("yes", "green"))

    files = Table("precision", "file", "kB", "opset", "IR", "SHA-256", title="files", title_justify="left")
    artefacts = {artefact.file: (precision, artefact) for precision, artefact in manifest.artefacts.items()}
    for name, sha256 in manifest.files.items():
        precision, artefact = artefacts.get(name, ("", None))
        default = " (default)" if precision == manifest.default_precision else ""
        sizes = (f"{artefact.size / 1000:.0f}", str(artefact.opset), str(artefact.ir)) if artefact else ("", "", "")
        files.add_row(precision + default, name, *sizes, sha256[:16])

    console = Console(markup=False)
    console.print(facts, files, sep="\n")
    if manifest.gates:
        _print_gates(manifest.gates, console)
    if manifest.targets:
        boards = Table("target", "precision", "engine", "", title="boards", title_justify="left")
        for target, support in manifest.targets.items():
            boards.add_row(target, support.precision, support.engine, support.note)
        console.print(boards)


def _print_gates(gates: dict[str, GateReport], console: Console) -> None:
    """One row a precision: what its gate measured; below it what is allowed."""
    first = next(iter(gates.values()))

    def head(name: str, unit: str) -> str:
        return f"{name}, {unit}" if unit else name

    table = Table("", head(first.metric, first.unit), title=f"gate, {first.data}", title_justify="left")
    for criterion in first.criteria:
        table.add_column(head(criterion.name, criterion.unit))
    for precision, gate in gates.items():
        table.add_row(precision, f"{gate.value:.3g}", *(f"{criterion.value:.2g}" for criterion in gate.criteria))
    table.add_section()
    table.add_row("limit", "", *(f"at {criterion.at} {criterion.limit:.4g}" for criterion in first.criteria))
    table.add_row("constant", f"{first.constant:.3g}")
    console.print(table)


def main() -> None:
    """Run the command line; what edgeflock, the system or a library raises becomes one line and an exit code."""
    try:
        check_words(sys.argv[1:])
        app(prog_name="edgeflock")
    except Exception as error:
        if (ended := end_with(error)) is None:
            raise
        line, code = ended
        typer.secho(line, err=True, fg=typer.colors.RED)
        sys.exit(code)


if __name__ == "__main__":
    main()
