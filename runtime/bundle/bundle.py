"""The bundle: a folder with a signed manifest, the ONNX files, the weights and the reference vectors.

    manifest.json           what the net is, and the SHA-256 of every other file; canonical JSON
    manifest.sig            64 bytes, Ed25519 over the bytes of manifest.json
    fadnet_fp32.onnx ...    one file per precision, named by the manifest
    weights.safetensors     the state dict that the ONNX files were made from
    vectors.safetensors     reference images and what the net answers to them

`manifest.json` is stored in canonical form (UTF-8, sorted keys, no spaces), so its signature and its digest can be
checked with openssl and sha256sum. The folder is flat and closed: a file that the manifest does not list is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgeflock.runtime.bundle.manifest import (
    MANIFEST,
    OLDEST_SCHEMA,
    SCHEMA_VERSION,
    SIGNATURE,
    VECTORS,
    Artefact,
    Criterion,
    GateReport,
    InputSpec,
    Manifest,
    OutputSpec,
    TargetSupport,
    upgraded,
)
from edgeflock.runtime.bundle.signing import (
    SIGNATURE_BYTES,
    TrustedKey,
    generate_key,
    key_id,
    read_private_key,
    trusted_keys,
    verify,
)
from edgeflock.runtime.errors import (
    BundleError,
    BundleFileMissing,
    BundleSchemaTooNew,
    BundleSignatureInvalid,
    BundleTampered,
    InputError,
)
from edgeflock.runtime.files import canonical_json, replacing, sha256_of, write_atomically

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Artefact",
    "Bundle",
    "Criterion",
    "GateReport",
    "InputSpec",
    "Manifest",
    "OutputSpec",
    "TargetSupport",
    "canonical",
    "default_bundle",
    "generate_key",
    "read_manifest",
    "sign_bundle",
    "write_bundle",
]


class Bundle:
    """A verified bundle; made by `Bundle.open` only.

    Attributes
    ----------
    path : Path
        The folder, symbolic links resolved.
    manifest : Manifest
    digest : str
        SHA-256 of the canonical manifest, hex: it covers every file of the bundle.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path, self.manifest, self.digest = path, manifest, digest

    @classmethod
    def open(
        cls,
        path: str | Path,
        keys: Iterable[str | Path | TrustedKey] | None = None,
        on_check: Callable[[str], None] = lambda text: None,
    ) -> Bundle:
        """Verify a bundle: schema, signature, manifest, and every file, which is read once.

        Parameters
        ----------
        path : str or Path
            The folder.
        keys : iterable of path or TrustedKey, optional
            `.pub` files or keys to trust besides the package's and the user's.
        on_check : callable, optional
            Gets one line of text after each check that passed.

        Raises
        ------
        BundleFileMissing, BundleTampered, BundleSignatureInvalid, BundleKeyUntrusted, BundleSchemaTooNew, BundleError
        """
        folder = _folder(path)
        raw = _read(folder, MANIFEST)
        document = _parse(raw, folder)
        on_check(f"schema version {document['schema_version']} is known")

        signer = document.get("key_id")
        if not isinstance(signer, str) or not (folder / SIGNATURE).exists():
            raise BundleSignatureInvalid(f"{folder} is not signed: sign it with `edgeflock bundle sign`.")
        signature = _read(folder, SIGNATURE)
        if len(signature) != SIGNATURE_BYTES:
            raise BundleSignatureInvalid(
                f"{folder / SIGNATURE} has {len(signature)} bytes, an Ed25519 signature has {SIGNATURE_BYTES}."
            )
        key = verify(raw, signature, signer, trusted_keys(keys or ()), str(folder))
        on_check(f"signed by key {signer} ({key.comment}), trusted through {key.source}")

        if canonical(document) != raw:
            raise BundleError(f"{folder / MANIFEST} is signed but not canonical JSON: write it with write_bundle.")
        manifest = _validate(document, folder)
        on_check("manifest is complete and agrees with itself")
        _check_files(folder, manifest, on_check)
        return cls(folder, manifest, hashlib.sha256(raw).hexdigest())

    def artefact(self, precision: str | None = None) -> Path:
        """ONNX file of a precision, by default the manifest's own.

        Raises
        ------
        InputError
            The bundle has no such precision.
        """
        precision = precision or self.manifest.default_precision
        if precision not in self.manifest.artefacts:
            raise InputError(
                f"the bundle {self.manifest.name} has no precision {precision!r}, only "
                f"{', '.join(sorted(self.manifest.artefacts))}."
            )
        return self.path / self.manifest.artefacts[precision].file

    def vectors(self) -> dict[str, np.ndarray]:
        """Reference vectors: inputs by name (N, ...), and answers as `<output>_<precision>` (N, ...).

        Raises
        ------
        BundleError
            The file is not safetensors.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self.path / VECTORS)
        except SafetensorError as error:
            raise BundleError(f"{self.path / VECTORS} is not a safetensors file: {error}.") from None


def read_manifest(path: str | Path) -> tuple[Manifest, str]:
    """Manifest and digest of a bundle whose signature and files nobody has checked: to look at, not to drive with.

    Raises
    ------
    BundleFileMissing, BundleSchemaTooNew, BundleError
    """
    folder = _folder(path)
    raw = _read(folder, MANIFEST)
    return _validate(_parse(raw, folder), folder), hashlib.sha256(raw).hexdigest()


def default_bundle(task: str = "steering") -> Path:
    """Folder of the bundle of a task (steering, emotion, registration) that ships with the package."""
    return Path(__file__).parents[1] / "bundles" / task


def canonical(document: Manifest | dict[str, Any]) -> bytes:
    """Bytes that are hashed and signed: UTF-8 JSON, keys sorted, no spaces.

    Raises
    ------
    BundleError
        NaN or infinity, for which JSON has no number, or text that UTF-8 cannot hold.
    """
    if isinstance(document, Manifest):
        document = document.model_dump(mode="json")
    try:
        return canonical_json(document, allow_nan=False)
    except ValueError as error:
        raise BundleError(
            f"the manifest cannot be written as JSON: {error}. NaN and infinity are not allowed."
        ) from None


def write_bundle(folder: str | Path, manifest: Manifest, files: dict[str, bytes | Path]) -> Path:
    """Write an unsigned bundle beside its place and rename it there, so that there is never half a bundle.

    A process killed between the two renames that replace an older bundle leaves both, whole, in `.<name>.*`.

    Parameters
    ----------
    folder : str or Path
        Where to; an older bundle there is replaced.
    manifest : Manifest
        Without hashes: `files` and `artefacts.*.sha256`, `.size` are filled in here, `key_id` is cleared.
    files : dict
        File name to content, or to the file to copy.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    BundleError
        The manifest does not fit the files, or `folder` is something else than a bundle.
    """
    folder = Path(folder).resolve()
    check_bundle_place(folder)
    document = manifest.model_dump(mode="json")
    document |= {"files": {name: _sha256(data) for name, data in files.items()}, "key_id": None}
    for precision, artefact in document["artefacts"].items():
        if artefact["file"] not in files:
            raise BundleError(f"artefact {precision} names {artefact['file']!r}, which is not among {sorted(files)}.")
        data = files[artefact["file"]]
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        artefact |= {"sha256": document["files"][artefact["file"]], "size": size}
    _validate(document, folder)

    with _draft(folder) as draft:
        new = draft / folder.name
        new.mkdir()
        for name, data in {**files, MANIFEST: canonical(document)}.items():
            with replacing(new / name) as target:
                if isinstance(data, Path):
                    shutil.copyfile(data, target)
                else:
                    target.write_bytes(data)
        old = draft / f"{folder.name}.old"
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    return folder


def check_bundle_place(folder: str | Path) -> None:
    """BundleError unless a bundle may be written to `folder`: nothing is there, an empty folder, or an older bundle."""
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / MANIFEST).exists():
        raise BundleError(f"{folder} exists and is not a bundle: choose another folder.")
    with suppress(BundleError):  # a damaged one may be replaced
        known = {MANIFEST, SIGNATURE, *read_manifest(folder)[0].files}
        if foreign := sorted(path.name for path in folder.iterdir() if path.name not in known):
            raise InputError(
                f"{folder} is replaced as a whole, and holds what is not of its bundle: {', '.join(foreign[:5])}. Move "
                "that elsewhere or choose another folder."
            )


def sign_bundle(folder: str | Path, private_key: str | Path) -> Path:
    """Check the files of a bundle and sign its manifest; a bundle that was signed before gets the new signature.

    A manifest of an older schema is written in today's.

    Parameters
    ----------
    folder : str or Path
    private_key : str or Path
        Unencrypted PEM, as `generate_key` writes it.

    Raises
    ------
    BundleError
        And its subclasses: what is wrong with a file, the manifest or the key.
    """
    folder = _folder(folder)
    document = upgraded(_parse(_read(folder, MANIFEST), folder))
    key = read_private_key(private_key)
    document["key_id"] = key_id(key.public_key().public_bytes_raw())
    manifest = _validate(document, folder)
    _check_files(folder, manifest, lambda text: None)
    raw = canonical(manifest)
    # A crash between the two leaves an invalid signature, which is refused and mended by signing again.
    with _draft(folder) as draft:
        for name, data in ((MANIFEST, raw), (SIGNATURE, key.sign(raw))):
            write_atomically(draft / name, data)
            (draft / name).replace(folder / name)
    return folder


_WEIGHTS = (".safetensors", ".pth", ".pt", ".npz", ".h5", ".index", ".ckpt")
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".7z")


def _folder(path: str | Path) -> Path:
    """The folder, links resolved; refused with what to do where something else stands there."""
    folder = Path(path).expanduser().resolve()
    if folder.is_dir():
        return folder
    wanted = f"expected a bundle, a folder with {MANIFEST}, got"
    if not folder.exists():
        raise BundleFileMissing(f"{wanted} {path}, where nothing is: check the path.")
    kind, suffix = "the file", folder.suffix.lower()
    if suffix == ".onnx":
        kind = "the ONNX file"
        way_out = (
            f"`edgeflock bench run --net {path}` measures it as it is, `edgeflock export net` makes a bundle of it."
        )
    elif suffix in _WEIGHTS:
        kind, way_out = (
            "weights",
            f"`edgeflock export steering --weights {path}` (registration, emotion) makes a bundle.",
        )
    elif suffix in _PACKED:
        kind, way_out = "an archive", "unpack it first and name the folder."
    elif folder.name in (MANIFEST, SIGNATURE, VECTORS):
        way_out = f"name its folder, {folder.parent}."
    else:
        way_out = "`edgeflock export` makes a bundle of trained weights."
    raise BundleError(f"{wanted} {kind} {path}: {way_out}")


def _parse(raw: bytes, folder: Path) -> dict[str, Any]:
    """Schema version comes first: what a newer edgeflock wrote must not be reported as a broken field."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{folder / MANIFEST} is not JSON ({error}): the file is cut or damaged, fetch it again."
        ) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{folder / MANIFEST} has no schema_version: it is not a manifest of edgeflock.")
    if version < OLDEST_SCHEMA:
        raise BundleError(
            f"{folder} has schema version {version}, from before the first release: export the net again."
        )
    if version > SCHEMA_VERSION:
        raise BundleSchemaTooNew(
            f"{folder} has schema version {version}, this edgeflock reads up to {SCHEMA_VERSION}: "
            f"pip install --upgrade edgeflock."
        )
    return document


def _validate(document: dict[str, Any], folder: Path) -> Manifest:
    try:
        return Manifest.model_validate(upgraded(document))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{folder / MANIFEST} is not a valid manifest: {problems}.") from None


def _check_files(folder: Path, manifest: Manifest, on_check: Callable[[str], None]) -> None:
    present = set()
    for entry in os.scandir(folder):
        if not entry.is_file(follow_symlinks=False):
            kind = "a symbolic link" if entry.is_symlink() else "not a plain file"
            raise BundleTampered(
                f"{entry.path} is {kind}: a bundle holds plain files only. Remove it or copy the file."
            )
        present.add(entry.name)
    for name in manifest.files:
        if name not in present:
            raise BundleFileMissing(f"{folder / name} is listed in the manifest but missing: fetch the bundle again.")
    for name in sorted(present - set(manifest.files) - {MANIFEST, SIGNATURE}):
        raise BundleTampered(f"{folder / name} is not listed in the manifest: remove it, or write the bundle again.")
    for name, wanted in manifest.files.items():
        got = _sha256(folder / name)
        if got != wanted:
            raise BundleTampered(
                f"{folder / name} was changed: SHA-256 {got[:16]}..., the manifest says {wanted[:16]}... "
                f"Fetch the bundle again."
            )
        on_check(f"{name} has the SHA-256 of the manifest, {got[:16]}...")


def _sha256(data: bytes | Path) -> str:
    """Of a file in blocks: a net may be larger than the memory of the board."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).hexdigest()
    try:
        return sha256_of(data)
    except OSError as error:
        raise BundleError(f"cannot read {data}: {error.strerror or error}.") from None


def _missing(path: Path, folder: Path) -> str:
    inner = sorted(manifest.parent for manifest in folder.glob(f"*/{MANIFEST}")) if path.name == MANIFEST else []
    if not inner:
        return f"{path} is missing: is {folder} a bundle folder?"
    return f"{folder} is no bundle itself, it holds {', '.join(map(str, inner[:5]))}: name one of them."


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if path.is_symlink():
        raise BundleTampered(f"{path} is a symbolic link: a bundle holds plain files only.")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleFileMissing(_missing(path, folder)) from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}.") from None


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Temporary folder beside `folder`: on the same file system, so that a rename moves what is finished."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as draft:
            yield Path(draft)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {folder}: {error}.") from None
