"""`edgeflock export targets` and `edgeflock export compile`: thin, each calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def targets(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the section of docs/targets.md.")] = False,
) -> None:
    """Show what every board takes: engines, precisions, operator sets, refused operators, known-bad versions.

    Example:

      edgeflock export targets --markdown
    """
    from rich.console import Console

    from edgeflock.export.targets import table

    if markdown:
        typer.echo(table.markdown())
    else:
        Console().print(table.terminal())


def compile_for(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    target: Annotated[str, typer.Option(help="Board, see `edgeflock export targets`.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the board's files.")],
    inputs: Annotated[
        Path | None, typer.Option(help="safetensors with calibration inputs (N, ...) by name; else the bundle's own.")
    ] = None,
    sdk_python: Annotated[str, typer.Option(help="Python that the vendor's tools run in.")] = "python3.10",
) -> None:
    """Prepare a bundle for a vendor's tools: QAIRT for the RB5 ($QNN_SDK_ROOT), operator set 13 for the Jetson Nano.

    Example:

      QNN_SDK_ROOT=~/qairt/2.45.0.260326 edgeflock export compile steering --target rb5 --out rb5
    """
    from rich.console import Console

    from edgeflock.export.targets import compile_bundle
    from edgeflock.runtime.bundle import Bundle
    from edgeflock.runtime.errors import InputError

    feeds = None
    if inputs is not None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            feeds = load_file(inputs)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{inputs} is not a safetensors file with inputs: {error}.") from None
    console = Console()
    made = compile_bundle(target, Bundle.open(bundle), out, feeds, sdk_python, console)
    for line in made.did:
        console.print(line, highlight=False, soft_wrap=True)
    for path in made.files:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if made.on_board:
        console.print("then:", highlight=False)
    for command in made.on_board:
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
