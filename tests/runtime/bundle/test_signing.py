"""Keys: made once, never overwritten, private to their owner, refused when broken."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edgeflock.runtime.bundle.signing import TrustedKey, generate_key, read_private_key, read_public_key, trusted_keys
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


def test_openssh_and_pem_keys_are_read_as_they_are(tmp_path):
    made = generate_key(tmp_path / "k.pem", "hall 3")
    key = read_private_key(tmp_path / "k.pem")
    ssh, pem = tmp_path / "id_ed25519", tmp_path / "spki.pub"
    ssh.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    ssh.with_suffix(".pub").write_text(f"{line} anna@robot 3\n")
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert read_private_key(ssh).public_key().public_bytes_raw() == made.raw
    assert read_public_key(ssh.with_suffix(".pub")) == TrustedKey(made.raw, "anna@robot 3", ssh.with_suffix(".pub"))
    assert read_public_key(pem).raw == made.raw


def test_a_key_file_of_windows_is_read(tmp_path):
    made = generate_key(tmp_path / "k.pem", "hall 3")
    (tmp_path / "k.pub").write_bytes(b"\xef\xbb\xbf" + made.raw.hex().encode() + b" hall 3\r\n")
    assert read_public_key(tmp_path / "k.pub") == made


def test_another_kind_of_public_key_is_named_with_the_way_out(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    path, other = tmp_path / "k.pub", generate_private_key(SECP256R1())
    for encoding, form in ((Encoding.OpenSSH, PublicFormat.OpenSSH), (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        path.write_bytes(other.public_key().public_bytes(encoding, form))
        with pytest.raises(BundleError, match=r"ECPublicKey.*edgeflock bundle keygen"):
            read_public_key(path)
    path.write_text("ssh-ed25519 AAAAnonsense anna@robot\n")
    with pytest.raises(BundleError, match=r"got a damaged one"):
        read_public_key(path)


def test_the_two_halves_of_a_key_are_told_apart(tmp_path):
    generate_key(tmp_path / "k.pem")
    with pytest.raises(BundleError, match=r"got a private key.*\.pub"):
        read_public_key(tmp_path / "k.pem")
    with pytest.raises(BundleError, match=r"public half"):
        read_private_key(tmp_path / "k.pub")


@pytest.mark.parametrize("form", ["PKCS8", "OpenSSH"])
def test_an_encrypted_private_key_says_how_to_decrypt_it(tmp_path, form):
    path, key = tmp_path / "k.pem", Ed25519PrivateKey.generate()
    if form == "PKCS8":
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    elif shutil.which("ssh-keygen"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path], check=True)
    else:
        pytest.skip("no ssh-keygen here")
    with pytest.raises(BundleError, match=rf"encrypted.*(openssl|ssh-keygen) .*{path}"):
        read_private_key(path)


def test_a_user_without_home_trusts_the_package_alone(tmp_path, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    made = generate_key(tmp_path / "k.pem")
    assert made.key_id in trusted_keys([made])


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


@pytest.mark.parametrize(("name", "comment"), [("fleet.pub", ""), ("fleet.pem", "hall 3\nhall 4")])
def test_a_pair_that_could_not_be_read_again_is_not_made(tmp_path, name, comment):
    with pytest.raises(BundleError, match=r"expected a private key's name, .*and a comment of one line"):
        generate_key(tmp_path / name, comment)
    assert not list(tmp_path.iterdir())


def test_a_pair_that_cannot_be_written_leaves_no_half(tmp_path):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (130, 130)); "
        "from edgeflock.runtime.bundle.signing import generate_key; generate_key(sys.argv[1], 'x' * 200)"
    )
    ended = subprocess.run([sys.executable, "-c", limited, tmp_path / "k.pem"], capture_output=True, text=True)
    assert "BundleError: cannot write the key pair" in ended.stderr and not list(tmp_path.iterdir())
