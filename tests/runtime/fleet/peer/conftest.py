"""Messages and keys of a small fleet."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeflock.runtime.bundle.signing import key_id
from edgeflock.runtime.fleet.peer.roster import RobotKey, Roster
from edgeflock.runtime.fleet.peer.wire import Offer

HASH = "ab" * 32


@pytest.fixture(scope="session")
def keys():
    """Private keys of robots a, b and c, and of a stranger."""
    names = ("a", "b", "c", "stranger")
    return {name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(names, 1)}


@pytest.fixture(scope="session")
def public(keys):
    return {name: key.public_key().public_bytes_raw() for name, key in keys.items()}


@pytest.fixture
def roster(public):
    return Roster(run="lab", robots=tuple(RobotKey(name=n, key=public[n].hex()) for n in "abc"))


@pytest.fixture
def make(public):
    """A header of a kind, from a to b, with some fields changed."""

    def make(kind, **changed):
        sender = changed.get("sender", "a")
        fields = {
            "run": "lab",
            "sender": sender,
            "to": "b",
            "boot": 1,
            "nonce": "00c0ffee",
            "seq": 1,
            "round": 3,
            "key": key_id(public.get(sender, public["stranger"])),
        }
        if kind is Offer:
            fields |= {
                "number": 1,
                "mix": 3,
                "of": 3,
                "view": HASH,
                "model_schema": HASH,
                "codec": "fp32",
                "base": None,
                "raw_bytes": 1000,
                "body_bytes": 900,
                "body_sha256": HASH,
                "model_sha256": HASH,
                "ttl_ms": 60_000,
                "pushed": 0,
            }
        return kind(**(fields | changed))

    return make
