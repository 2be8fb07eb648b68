"""Messages as bytes: what is refused, with which reason, and that nothing else gets out of the decoder."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflock.runtime.fleet.peer import wire
from edgeflock.runtime.fleet.peer.wire import Ack, Chunk, Code, Heartbeat, Leave, Offer, Pull, Refused, Want

HASH = "cd" * 32
MORE = {
    Heartbeat: {"plan": HASH, "view": None, "absent": ["c"], "next_plan": None, "next_round": 0},
    Offer: {},
    Want: {"offer": 1, "missing": "ff", "credit": 4},
    Ack: {"offer_boot": 1, "offer": 1, "mix": 3, "code": Code.ACCEPTED},
    Pull: {},
    Leave: {},
}


@pytest.fixture(params=MORE, ids=lambda kind: kind.__name__)
def header(request, make):
    return make(request.param, **MORE[request.param])


def refusal(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.code


def test_every_message_comes_back_as_it_was_sent(header, keys, public):
    found = wire.decode(wire.encode(header, keys["a"]))
    found.verify(public["a"])
    assert found.header == header


def test_a_signature_of_another_key_is_refused(header, keys, public):
    found = wire.decode(wire.encode(header, keys["stranger"]))
    assert refusal(found.verify, public["a"]) == Code.SIGNATURE


def test_a_changed_field_breaks_the_signature(header, keys, public):
    message = wire.encode(header, keys["a"])
    changed = message.replace(b'"round":3', b'"round":4')
    assert refusal(wire.decode(changed).verify, public["a"]) == Code.SIGNATURE


def test_a_signature_holds_for_no_other_kind(make, keys, public):
    message = wire.encode(make(Pull), keys["a"])
    as_leave = message[:4] + Leave.kind + message[5:]
    assert refusal(wire.decode(as_leave).verify, public["a"]) == Code.SIGNATURE


@pytest.mark.parametrize("cut", [0, 3, 4, 5, 40, 68, 69, 70])
def test_a_message_that_is_cut_off_is_malformed(make, keys, cut):
    assert refusal(wire.decode, wire.encode(make(Pull), keys["a"])[:cut]) == Code.MALFORMED


def test_one_content_has_one_form(make, keys):
    header = make(Pull)
    content = json.dumps(json.loads(wire.encode(header, keys["a"])[5:-64]), indent=1).encode()
    message = wire.MAGIC + Pull.kind + content + keys["a"].sign(wire.DOMAIN + Pull.kind + content)
    assert refusal(wire.decode, message) == Code.MALFORMED


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Pull, "sender", "../etc"),
        (Pull, "sender", "a" * 64),
        (Pull, "boot", -1),
        (Pull, "seq", 1 << 53),
        (Pull, "round", "3"),
        (Pull, "round", True),
        (Pull, "round", 3.0),
        (Pull, "extra", 1),
        (Want, "missing", "g"),
        (Want, "credit", 0),
        (Want, "credit", 1025),
        (Offer, "codec", "pickle"),
        (Offer, "body_sha256", "short"),
        (Ack, "code", "fine"),
    ],
)
def test_a_field_out_of_its_range_is_malformed_even_when_it_is_signed(make, keys, kind, field, value):
    content = json.loads(wire.encode(make(kind, **MORE[kind]), keys["a"])[5:-64]) | {field: value}
    raw = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    message = wire.MAGIC + kind.kind + raw + keys["a"].sign(wire.DOMAIN + kind.kind + raw)
    assert refusal(wire.decode, message) == Code.MALFORMED


def test_another_version_is_refused():
    assert refusal(wire.decode, b"EFP2P" + bytes(100)) == Code.MALFORMED


def test_a_message_above_the_limit_is_refused_before_it_is_read():
    assert refusal(wire.decode, wire.MAGIC + b"H" + bytes(wire.MAX_MESSAGE)) == Code.OVERSIZE


def test_a_full_chunk_fits_into_a_message_of_60_kb():
    message = Chunk(1 << 53, 7, 12, bytes(wire.CHUNK_BYTES)).encode()
    assert len(message) <= wire.MAX_MESSAGE <= 60_000
    assert wire.decode(message) == Chunk(1 << 53, 7, 12, bytes(wire.CHUNK_BYTES))


def test_a_flipped_bit_in_a_chunk_is_found():
    message = bytearray(Chunk(1, 2, 3, b"weights").encode())
    message[-1] ^= 1
    assert refusal(wire.decode, bytes(message)) == Code.CHECKSUM


def test_an_empty_chunk_is_malformed():
    assert refusal(wire.decode, Chunk(1, 2, 3, b"").encode()) == Code.MALFORMED


@given(st.sets(st.integers(0, 2000)), st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_a_bitmap_names_the_first_missing_chunks(missing, count):
    assert wire.chunks_of(wire.bitmap(missing), count) == sorted(missing)[:count]


@given(st.binary(max_size=300), st.sampled_from([b"", wire.MAGIC, *(wire.MAGIC + k for k in [*wire.KINDS, b"C"])]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_bring_anything_but_a_message_or_a_refusal(noise, head):
    try:
        wire.decode(head + noise)
    except Refused as refused:
        assert refused.code in (Code.MALFORMED, Code.CHECKSUM, Code.OVERSIZE)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_never_passes_as_the_sender(data):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    ack = Ack(
        run="lab", sender="a", to="b", boot=1, nonce="00000000", seq=1, round=1, key="0" * 16,
        offer_boot=1, offer=1, mix=1, code=Code.MIXED,
    )  # fmt: skip
    message = bytearray(wire.encode(ack, key))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        found = wire.decode(bytes(message))
        assert not isinstance(found, Chunk)
        found.verify(key.public_key().public_bytes_raw())
