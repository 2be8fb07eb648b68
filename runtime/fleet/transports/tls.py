"""TLS 1.3 between two robots that know each other's Ed25519 key and nothing else: no authority, no clock, no names.

OpenSSL verifies a certificate against trust anchors, and an anchor is a name with a public key (RFC 5280, 6.1.1 d). So
every robot presents a certificate for its key, issued under its own key, and each side makes the anchor of the other
from the key in the roster. The anchor's own signature is never looked at (RFC 5280, 6.1: the anchor is not part of the
path), so that it can be made without the other's private key. Certificates are valid for all time, because a robot may
start without a clock: what ends a key is the roster.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

FIRST_DAY = datetime.datetime(1950, 1, 1)
LAST_DAY = datetime.datetime(9999, 12, 31)


def server_context(own: Ed25519PrivateKey, peers: Iterable[bytes]) -> ssl.SSLContext:
    """Context of the side that is called: takes callers with one of these raw public keys (32 bytes each)."""
    return _context(ssl.PROTOCOL_TLS_SERVER, own, peers)


def client_context(own: Ed25519PrivateKey, peer: bytes) -> ssl.SSLContext:
    """Context of the side that calls: takes the one peer with this raw public key (32 bytes)."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, own, [peer])


def key_of(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """Raw public key of the other side of a finished handshake."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None, "the contexts of this file demand a certificate"
    key = x509.load_der_x509_certificate(der).public_key()
    assert isinstance(key, Ed25519PublicKey), "the anchors of this file are Ed25519 keys"
    return key.public_bytes_raw()


def _context(protocol: int, own: Ed25519PrivateKey, peers: Iterable[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the key is pinned; names and addresses may change
    context.verify_mode = ssl.CERT_REQUIRED
    anchors = b"".join(_anchor(peer) for peer in peers)
    if anchors:
        context.load_verify_locations(cadata=anchors)
    # The session tickets of TLS 1.3 would let a caller back in whose key was revoked in the meantime.
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    pem = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + _leaf(own)
    with tempfile.TemporaryDirectory() as folder:  # mode 0700; `ssl` reads keys from files only
        path = Path(folder) / "own.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context


def _leaf(own: Ed25519PrivateKey) -> bytes:
    public = own.public_key()
    builder = _certificate("edgeflock robot", _name(public.public_bytes_raw()), public, authority=False)
    return builder.sign(own, None).public_bytes(Encoding.PEM)


def _anchor(peer: bytes) -> bytes:
    name = _name(peer)
    builder = _certificate(name, name, Ed25519PublicKey.from_public_bytes(peer), authority=True)
    return builder.sign(Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER)


def _name(key: bytes) -> str:
    return f"edgeflock {key.hex()[:48]}"  # a common name has at most 64 characters


def _certificate(subject: str, issuer: str, key: Ed25519PublicKey, authority: bool) -> x509.CertificateBuilder:
    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    return (
        x509.CertificateBuilder(named(issuer), named(subject), key)
        .serial_number(1)
        .not_valid_before(FIRST_DAY)
        .not_valid_after(LAST_DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
