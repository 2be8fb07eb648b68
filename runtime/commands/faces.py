"""`edgeflock faces`: the detector's net."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeflock.runtime.options import next_command

faces_app = typer.Typer(no_args_is_help=True)


@faces_app.callback(epilog="Example: edgeflock faces get")
def faces() -> None:
    """Bring the net that finds faces to this machine."""


@faces_app.command(epilog="Example: edgeflock faces get; edgeflock faces get --from face_detection_yunet_2023mar.onnx")
def get(
    source: Annotated[
        str | None,
        typer.Option("--from", help="A copy of the file, or its address on a mirror; by default OpenCV's model zoo."),
    ] = None,
) -> None:
    """Fetch YuNet once: a face detector of 0.2 MB that also finds turned, small and partly hidden faces.

    Every verb and node takes it from then on (`--detector auto`). The file is known by its SHA-256, whatever the way it
    came. It is not part of edgeflock; its licence is shown.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    from edgeflock.runtime.faces import yunet_file

    console = Console(stderr=True)
    there, _ = yunet_file.find()
    if there is None or source is not None:
        with Progress(*Progress.get_default_columns(), DownloadColumn(), console=console, transient=True) as progress:
            bar = progress.add_task("YuNet", total=yunet_file.ZOO.size)
            there, _ = yunet_file.get(source or yunet_file.ADDRESS, lambda count: progress.advance(bar, count))
    weights = yunet_file.KNOWN[yunet_file.sha256_of(there)]
    typer.echo(f"{there}: YuNet, licence {weights.licence}, {weights.source}")
    console.print(next_command("emotion", "camera"), highlight=False, markup=False, soft_wrap=True)
