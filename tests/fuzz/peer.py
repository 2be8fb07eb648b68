"""Fuzz what a peer reads from others: messages, bodies, and what a member of the fleet signs (atheris, libFuzzer).

    pip install atheris
    python tests/fuzz/peer.py -max_total_time=600

A finding is any exception but a refusal, or memory or time beyond libFuzzer's limits; libFuzzer writes the input that
caused it beside and ends with another code than 0. The first byte of an input says what the rest is.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["edgeflock", "safetensors"]):
    import numpy as np

    from edgeflock.export.fleet.faults import SCHEMA, laboratory_key, laboratory_roster
    from edgeflock.runtime.bundle.signing import key_id
    from edgeflock.runtime.errors import InputError
    from edgeflock.runtime.files import canonical_json
    from edgeflock.runtime.fleet.peer import codecs, wire
    from edgeflock.runtime.fleet.peer.actions import Train
    from edgeflock.runtime.fleet.peer.config import PeerConfig
    from edgeflock.runtime.fleet.peer.round import Peer
    from edgeflock.runtime.fleet.plan.schedule import make_plan

SIZE = 300
BASE = np.linspace(-1, 1, SIZE, dtype=np.float32)
PLAN = make_plan(["a", "b"], np.array([[0, 5], [5, 0.0]]), 1, "mst")
ROSTER = laboratory_roster(PLAN.roster)
KEY = laboratory_key("b")
SAME = {
    "run": ROSTER.run, "sender": "b", "to": "a", "boot": 1, "nonce": "00c0ffee", "round": 1,
    "key": key_id(KEY.public_key().public_bytes_raw()),
}  # fmt: skip


class Receiver:
    """Robot a, made anew now and then; b talks to it, and its own training takes until the next message."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        config = PeerConfig(rounds=10**6, codec="topk", ttl_s=2)
        self.peer = Peer("a", config, ROSTER, laboratory_key("a"), PLAN, BASE, SCHEMA, 1, "0badcafe")
        self.now, self.messages = 0, 0
        self.actions = self.peer.start(0)

    def take(self, message: bytes) -> None:
        self.now += 200_000_000
        self.messages += 1
        orders = [action for action in self.actions if isinstance(action, Train)]
        self.actions = [a for one in orders for a in self.peer.trained(one.round, one.model, 0.0, self.now)]
        self.actions += self.peer.receive("b", message, self.now) + self.peer.tick(self.now)
        assert np.isfinite(self.peer.model).all()
        if self.messages == 500:
            self.begin()


RECEIVER = Receiver()


def signed(data: bytes) -> None:
    """Any content under a kind, with the next number and a member's signature, which no mutation keeps."""
    content = data[1:]
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(fields := json.loads(content), dict):
            content = canonical_json(fields | {"seq": RECEIVER.messages + 1})
    content = data[:1] + content
    RECEIVER.take(wire.MAGIC + content + KEY.sign(wire.DOMAIN + content))


def unpack(data: bytes) -> None:
    """Any bytes as a body, of each codec, as they are and as what a frame holds."""
    for codec in codecs.CODECS:
        for raw in (lambda: data, lambda: codecs.decompress(data, codecs.largest_raw(SIZE))):
            try:
                model = codecs.decode(codec, raw(), SIZE, BASE)
            except InputError:
                continue
            assert model.shape == (SIZE,) and model.dtype == np.float32
    with contextlib.suppress(InputError):
        codecs.decompress(data, int.from_bytes(data[:2], "big"))


TARGETS = (RECEIVER.take, signed, unpack)


def one(data: bytes) -> None:
    """Run one input."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def seeds(folder: Path) -> None:
    """Write good messages and bodies to begin from."""
    h = "ab" * 32
    offer = dict(
        number=1, mix=1, of=1, view=PLAN.hash, model_schema=SCHEMA, codec="fp32", base=None, raw_bytes=1200,
        body_bytes=1100, body_sha256=h, model_sha256=h, ttl_ms=60_000, pushed=0,
    )  # fmt: skip
    beat = dict(plan=PLAN.hash, view=PLAN.hash, absent=[], next_plan=None, next_round=0)
    headers = [
        wire.Heartbeat(**SAME, seq=1, **beat),
        wire.Offer(**SAME, seq=2, **offer),
        wire.Want(**SAME, seq=3, offer=1, missing="f", credit=4),
        wire.Ack(**SAME, seq=4, offer_boot=1, offer=1, mix=1, code=wire.Code.MIXED),
        wire.Pull(**SAME, seq=5),
        wire.Leave(**SAME, seq=6),
    ]
    messages = [wire.encode(header, KEY) for header in headers]
    found = [b"\0" + message for message in [*messages, wire.Chunk(1, 1, 0, b"weights").encode()]]
    found += [b"\1" + message[len(wire.MAGIC) : -wire.SIGNATURE_BYTES] for message in messages]
    for codec in codecs.CODECS:
        raw = codecs.encode(codec, BASE * 2, BASE)
        found += [b"\2" + raw, b"\2" + codecs.compress(raw)]
    for i, content in enumerate(found):
        (folder / f"seed-{i:02d}").write_bytes(content)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, "-max_len=4096", "-rss_limit_mb=1024", corpus], one)
        atheris.Fuzz()
