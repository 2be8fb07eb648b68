"""Ed25519 keys: who may sign a bundle that this machine drives with.

A public key file (`*.pub`) is one line, `<64 hex digits of the raw key> <comment>`; lines that start with '#' are
skipped. The public keys of OpenSSH and PEM files are read too. Keys come from the package (`runtime/keys`), from
`~/.config/edgeflock/keys` and from the caller. A key is named by its key id, the first 16 hex digits of the SHA-256 of
the raw public key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from edgeflock.runtime.errors import BundleError, BundleKeyUntrusted, BundleSignatureInvalid, FileError
from edgeflock.runtime.files import config_folder

PACKAGE_KEYS = Path(__file__).parents[1] / "keys"
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class TrustedKey:
    """A public key, the comment in its file and the file it came from."""

    raw: bytes
    comment: str
    source: Path

    @property
    def key_id(self) -> str:
        """Name of the key in manifests and messages."""
        return key_id(self.raw)


def key_id(public_key: bytes) -> str:
    """First 16 hex digits of the SHA-256 of a raw public key (32 bytes)."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def user_keys() -> Path:
    """Folder of the keys that the user of this machine trusts."""
    return config_folder() / "keys"


def read_public_key(path: str | Path) -> TrustedKey:
    """Read a `.pub` file: ours, OpenSSH's (`ssh-keygen -t ed25519`) or PEM (`openssl pkey -pubout`).

    Raises
    ------
    BundleError
        The file is not there or holds no single Ed25519 public key.
    """
    path = Path(path)
    wanted = f"expected one Ed25519 public key in {path}: '<64 hex> <comment>', 'ssh-ed25519 ...' or PEM"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{wanted}; it cannot be read as text ({error}).") from None
    if "PRIVATE KEY" in text:
        raise BundleError(f"{wanted}; got a private key, which nobody else needs: name the .pub file beside it.")
    if "BEGIN" in text:
        return _loaded(lambda: load_pem_public_key(text.encode()), path.stem, path, wanted)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise BundleError(f"{wanted}; got {len(lines)} lines: one key a file.")
    kind, _, rest = lines[0].partition(" ")
    if kind.startswith(("ssh-", "ecdsa-", "sk-")):
        return _loaded(lambda: load_ssh_public_key(lines[0].encode()), rest.partition(" ")[2], path, wanted)
    try:
        raw = bytes.fromhex(kind)
    except ValueError:
        raise BundleError(f"{wanted}; got a line that begins with {kind[:20]!r}.") from None
    if len(raw) != 32:
        raise BundleError(f"{wanted}; got {len(raw)} bytes, an Ed25519 key has 32 (64 hex digits).")
    return TrustedKey(raw, rest.strip(), path)


def _loaded(load: Callable[[], object], comment: str, path: Path, wanted: str) -> TrustedKey:
    try:
        key = load()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{wanted}; got a damaged one ({error}).") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{wanted}; got a {type(key).__name__}: make an Ed25519 key, `edgeflock bundle keygen`.")
    return TrustedKey(key.public_bytes_raw(), comment.strip(), path)


def trusted_keys(extra: Iterable[str | Path | TrustedKey] = ()) -> dict[str, TrustedKey]:
    """Every key that this machine trusts, by key id: the package's, the user's and `extra` keys or `.pub` files."""
    found = [*sorted(PACKAGE_KEYS.glob("*.pub")), *extra]
    with suppress(FileError):  # this user has no home, so no keys there either
        found += sorted(user_keys().glob("*.pub"))
    keys = (key if isinstance(key, TrustedKey) else read_public_key(key) for key in found)
    return {key.key_id: key for key in keys}


def verify(message: bytes, signature: bytes, signer: str, keys: dict[str, TrustedKey], what: str) -> TrustedKey:
    """Check that the trusted key with the id `signer` signed `message`; `what` names the thing in error messages.

    Raises
    ------
    BundleKeyUntrusted
        The signer is not among `keys`.
    BundleSignatureInvalid
        The signature is not the signer's over this message.
    """
    key = keys.get(signer)
    if key is None:
        known = ", ".join(sorted(keys)) or "none"
        raise BundleKeyUntrusted(
            f"{what} is signed by key {signer}, which this machine does not trust (trusted: {known}). If you trust the "
            f"signer, put its .pub file into ~/.config/edgeflock/keys, or name it each time: --key of a command, "
            f"`keys` of a ROS node and in Python."
        )
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
    except InvalidSignature:
        raise BundleSignatureInvalid(
            f"{what}: the signature is not that of key {signer} over this manifest, so one of them was changed after "
            f"signing. Fetch the bundle again, or sign it again with `edgeflock bundle sign` if the change was yours."
        ) from None
    return key


def read_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Read an unencrypted Ed25519 key in PKCS#8 PEM or OpenSSH's form.

    Raises
    ------
    BundleError
        The file is not there or is not such a key.
    """
    wanted = "Expected an unencrypted Ed25519 private key, as `edgeflock bundle keygen` or `ssh-keygen` writes it."
    try:
        content = Path(path).read_bytes()
        load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
        key = load(content, password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        if any(word in str(error).lower() for word in ("password", "bcrypt")):  # bcrypt: only encrypted ones need it
            raise BundleError(
                f"the private key {path} is encrypted. {wanted} `ssh-keygen -p -f {path}` takes the passphrase off one "
                f"of OpenSSH's form, `openssl pkey -in {path} -out NEW.pem` makes a plain copy of a PEM."
            ) from None
        public = Path(path).suffix == ".pub"
        hint = " A .pub file is the public half: name the file beside it." if public else ""
        raise BundleError(f"cannot read the private key {path}: {error}. {wanted}{hint}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"the private key {path} is a {type(key).__name__}. {wanted}")
    return key


def generate_key(path: str | Path, comment: str = "") -> TrustedKey:
    """Make a key pair: private PEM (mode 0600) at `path`, public key beside it with the suffix `.pub`.

    Raises
    ------
    BundleError
        One of the two files exists already (a key is never overwritten) or cannot be written.
    """
    path = Path(path)
    if path.suffix == ".pub" or not path.name or not comment.isprintable():
        got = path if comment.isprintable() else repr(comment)
        raise BundleError(f"expected a private key's name, such as fleet.pem, and a comment of one line, got {got}.")
    for taken in (path, path.with_suffix(".pub")):
        if taken.exists():
            raise BundleError(f"{taken} exists already and keys are never overwritten: choose another name.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = TrustedKey(key.public_key().public_bytes_raw(), comment or path.stem, path.with_suffix(".pub"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        with public.source.open("x", encoding="utf-8") as text:
            text.write(f"{public.raw.hex()} {public.comment}\n")
    except OSError as error:
        for half in (path, public.source) if not isinstance(error, FileExistsError) else ():  # neither was there before
            with suppress(OSError):
                half.unlink()
        raise BundleError(f"cannot write the key pair {path}, {public.source}: {error}.") from None
    return public
