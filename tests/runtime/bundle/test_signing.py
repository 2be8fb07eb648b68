"""Keys: made once, never overwritten, private to their owner, refused when broken."""

import hashlib

import pytest

from edgeflock.runtime.bundle.signing import generate_key, read_private_key, read_public_key, trusted_keys
from edgeflock.runtime.errors import BundleError

pytestmark = pytest.mark.usefixtures("home")


def test_a_key_pair_is_a_private_pem_and_a_public_line(tmp_path):
    made = generate_key(tmp_path / "robots.pem", comment="robots of hall 3")
    assert (tmp_path / "robots.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "robots.pub").read_text() == f"{made.raw.hex()} robots of hall 3\n"
    assert read_public_key(tmp_path / "robots.pub") == made
    assert made.key_id == hashlib.sha256(made.raw).hexdigest()[:16]
    assert read_private_key(tmp_path / "robots.pem").public_key().public_bytes_raw() == made.raw


@pytest.mark.parametrize("taken", ["k.pem", "k.pub"])
def test_a_key_is_never_overwritten(tmp_path, taken):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(BundleError, match=f"{taken} exists"):
        generate_key(tmp_path / "k.pem")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "text", ["", "xyz comment", "ab" * 31 + " short", "ab" * 32 + " one\n" + "cd" * 32 + " two", "\xff\xfe"]
)
def test_a_broken_public_key_is_named(tmp_path, text):
    (tmp_path / "bad.pub").write_text(text, "latin-1")
    with pytest.raises(BundleError, match=r"bad\.pub"):
        trusted_keys([tmp_path / "bad.pub"])


def test_a_public_key_file_may_have_comment_lines(tmp_path):
    made = generate_key(tmp_path / "k.pem")
    (tmp_path / "k.pub").write_text(f"# made on the build machine\n\n{made.raw.hex()}\n")
    assert read_public_key(tmp_path / "k.pub").key_id == made.key_id


def test_a_private_key_of_another_kind_is_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    path = tmp_path / "k.pem"
    key = X25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(BundleError, match="X25519"):
        read_private_key(path)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(BundleError, match="unencrypted"):
        read_private_key(path)
    path.write_bytes(b"not a key")
    with pytest.raises(BundleError, match="bundle keygen"):
        read_private_key(path)
    with pytest.raises(BundleError, match="missing"):
        read_private_key(tmp_path / "missing.pem")
