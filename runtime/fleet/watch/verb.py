"""`edgeflock fleet watch`: serve the page."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from pathlib import Path
from typing import Annotated

import typer

from edgeflock.runtime.errors import InputError, TransportError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import config_folder
from edgeflock.runtime.fleet.peer.settings import address

LEAST_TOKEN = 16
"""Characters."""


def watch(
    folders: Annotated[list[Path], typer.Argument(help="--out folder of `fleet join`, of one or several robots.")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT; from another machine than this one a token is asked for.")
    ] = "127.0.0.1:7700",
    token: Annotated[
        Path | None,
        typer.Option(help="File with the token (default: ~/.config/edgeflock/watch-token, made when one is needed)."),
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Show the rounds of the logs, not what goes on.")] = False,
) -> None:
    """Serve a page on a fleet: robots, links, rounds, refusals, models; live, or replayed from the event logs.

    It only reads. /metrics has the figures for Prometheus, /state.json for other programs.
    """
    with needs("edgeflock fleet watch", "watch"):
        import uvicorn

        from edgeflock.runtime.fleet.watch.app import make_app
    from edgeflock.runtime.fleet.watch.view import Fleet

    host, port = address(listen)
    fleet = Fleet(folders)
    near = is_loopback(host)
    if not near and token is None:
        token = config_folder() / "watch-token"
        make_token(token)
    hosts = ("localhost", "127.0.0.1", "[::1]", host) if near else ("*",)
    app = make_app(fleet, replay, read_token(token) if token else None, hosts)
    bound = _bind(host, port)
    name, at = bound.getsockname()[:2]
    name = socket.gethostname() if name in ("0.0.0.0", "::") else f"[{name}]" if ":" in name else name
    typer.echo(f"http://{name}:{at}/ shows {', '.join(map(str, folders))}; Ctrl-C ends it")
    if token:
        typer.echo(f"it asks for the token in {token}")
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[bound])


def is_loopback(host: str) -> bool:
    """Whether a host's name or address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_token(path: Path) -> None:
    """Write a new token that only this user can read, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass


def read_token(path: Path) -> str:
    """Token in a file.

    Raises
    ------
    InputError
        It is not there, or so short that it can be guessed.
    """
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the token in {path} ({error}): leave --token out, and one is made.") from None
    if len(token) < LEAST_TOKEN or not token.isascii():
        raise InputError(
            f"the token in {path} has {len(token)} characters, expected {LEAST_TOKEN} or more of ASCII, such as those "
            "of `openssl rand -hex 16`."
        )
    return token


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # who reads the address may ask at once
    except OSError as error:
        raise TransportError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): name another place with --listen."
        ) from None
    return bound
