"""Files that the fleet's key signs: the roster, and the plan that is adopted next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgeflock.runtime.bundle.signing import key_id
from edgeflock.runtime.errors import DataError
from edgeflock.runtime.files import canonical_json, parse_json


def seal(what: str, content: Any, fleet_key: Ed25519PrivateKey) -> bytes:
    """JSON file of a content of one kind (`what`: one lower-case word), with the fleet's key and its signature."""
    public = fleet_key.public_key().public_bytes_raw().hex()
    signature = fleet_key.sign(_domain(what) + canonical_json(content)).hex()
    return (json.dumps({what: content, "fleet_key": public, "signature": signature}, indent=1) + "\n").encode()


def unseal(path: Path, what: str, fleet_key: bytes | None, remedy: str) -> tuple[Any, bytes]:
    """Content of a sealed file, and the raw public key (32 bytes) that signed it.

    Parameters
    ----------
    path : Path
    what : str
        Kind that it has to be.
    fleet_key : bytes, optional
        Raw public key that must have signed it; without it the file's own is taken.
    remedy : str
        Way out, for the messages.

    Raises
    ------
    DataError
        It is not there, is no such file, was changed after signing, or another key signed it.
    """
    try:
        data: Any = parse_json(path.read_bytes())
        content, public, signature = data[what], bytes.fromhex(data["fleet_key"]), bytes.fromhex(data["signature"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _domain(what) + canonical_json(content))
    except InvalidSignature:
        raise DataError(f"{path} was changed after the fleet's key signed it. {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is no {what} ({type(error).__name__}: {error}). {remedy}") from error
    if fleet_key is not None and public != fleet_key:
        raise DataError(
            f"{path} is signed by the fleet key {key_id(public)}, this robot trusts {key_id(fleet_key)}: it belongs to "
            f"another fleet. {remedy}"
        )
    return content, public


def _domain(what: str) -> bytes:
    return f"edgeflock/fleet/{what}/1\0".encode()
