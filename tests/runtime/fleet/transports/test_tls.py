import contextlib
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.fleet.transports.tls import client_context, key_of, server_context


def raw(key):
    return key.public_key().public_bytes_raw()


@pytest.fixture
def keys():
    return [Ed25519PrivateKey.generate() for _ in range(3)]


def shake(client, server):
    """Both sides of a handshake in memory, then a byte each way: a refusal of the caller shows only after it."""
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    a = client.wrap_bio(wires[0], wires[1])
    b = server.wrap_bio(wires[1], wires[0], server_side=True)
    for side in (a, b, a, b):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    a.write(b"?")
    assert b.read(1) == b"?"
    b.write(b"!")
    assert a.read(1) == b"!"
    return a, b


def test_two_robots_that_know_each_others_key_meet_on_tls_1_3_and_prove_it(keys):
    alice, bob, carol = keys
    a, b = shake(client_context(alice, raw(bob)), server_context(bob, [raw(carol), raw(alice)]))
    assert a.version() == b.version() == "TLSv1.3"
    assert key_of(a) == raw(bob) and key_of(b) == raw(alice)


def test_a_caller_whose_key_is_not_in_the_roster_is_refused(keys):
    alice, bob, carol = keys
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        shake(client_context(carol, raw(bob)), server_context(bob, [raw(alice)]))


def test_a_called_side_with_another_key_is_refused(keys):
    alice, bob, carol = keys
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context(alice, raw(bob)), server_context(carol, [raw(alice)]))


def test_a_certificate_in_a_robots_name_under_another_key_is_refused(keys, monkeypatch):
    from edgeflock.runtime.fleet.transports import tls

    alice, bob, carol = keys
    monkeypatch.setattr(tls, "_name", lambda key: "edgeflock everyone")  # all issuers are named alike now
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        shake(client_context(carol, raw(bob)), server_context(bob, [raw(alice)]))
    shake(client_context(alice, raw(bob)), server_context(bob, [raw(alice)]))


def test_a_caller_without_a_certificate_is_refused(keys):
    alice, bob, _ = keys
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        shake(bare, server_context(bob, [raw(alice)]))


def test_an_empty_roster_takes_nobody(keys):
    alice, bob, _ = keys
    with pytest.raises(ssl.SSLError):
        shake(client_context(alice, raw(bob)), server_context(bob, []))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_of_tls_are_refused_on_both_sides(keys):
    alice, bob, _ = keys
    for old, of in (
        (client_context(alice, raw(bob)), "client"),
        (server_context(bob, [raw(alice)]), "server"),
    ):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
        new = server_context(bob, [raw(alice)]) if of == "client" else client_context(alice, raw(bob))
        with pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"):
            shake(old, new) if of == "client" else shake(new, old)


@pytest.mark.parametrize("wrong_by_days", [-365 * 56, -1, 1, 365 * 100])
def test_a_wrong_clock_does_not_keep_robots_apart(wrong_by_days):
    """The certificates are valid from 1950 to 9999, so that even a robot that starts in 1970 is let in."""
    import datetime

    from edgeflock.runtime.fleet.transports import tls

    now = datetime.datetime.now() + datetime.timedelta(days=wrong_by_days)
    assert tls.FIRST_DAY < now < tls.LAST_DAY
