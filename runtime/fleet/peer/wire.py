"""Messages between peers, as bytes: signed headers, and chunks of a body that a signed header vouches for.

    b"EFP1" | kind, 1 byte | header, canonical JSON | Ed25519 signature, 64 bytes
    b"EFP1" | b"C" | boot u64 | offer u64 | index u32 | CRC-32 u32 | data                    (big-endian)

The signature covers `DOMAIN`, the kind and the header. A header that is not the canonical form of itself is refused, so
that one content has one signature. A chunk carries none: the SHA-256 of the whole body stands in the offer.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import canonical_json
from edgeflock.runtime.fleet.peer.codecs import Codec

MAGIC = b"EFP1"
DOMAIN = b"edgeflock/fleet/message/1\0"
SIGNATURE_BYTES = 64
CHUNK_BYTES = 56 << 10
"""Data in a chunk; with its head less than 60 kB, one datagram of DDS."""
MAX_MESSAGE = 60_000
_CHUNK = struct.Struct(">QQII")
_CHUNK_HEAD = len(MAGIC) + 1 + _CHUNK.size

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
Run = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]  # exact in every reader of JSON


class Code(str, Enum):
    """What became of an offer or a message. Part of the protocol: names do not change."""

    ACCEPTED = "accepted"  # taken; on an edge that both ends must mix: ready to
    MIXED = "mixed"  # both ends mix
    SKIPPED = "skipped"  # neither end mixes
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    SIGNATURE = "signature"
    UNKNOWN_PEER = "unknown_peer"
    KEY = "key"  # revoked, or not yet in force
    RUN = "run"
    ADDRESSEE = "addressee"
    REPLAY = "replay"
    TWO_ROBOTS = "two_robots"  # two machines speak under one name
    CHECKSUM = "checksum"  # of a chunk
    HASH = "hash"  # of the body or of the model
    CODEC = "codec"
    SCHEMA = "schema"
    PLAN = "plan"
    STALE = "stale"
    EXPIRED = "expired"
    UNKNOWN_BASE = "unknown_base"
    NONFINITE = "nonfinite"
    NORM = "norm"
    DISTANCE = "distance"


class Refused(InputError):
    """A message is not taken; `code` says why in one word, for counters and acknowledgements."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Header(BaseModel):
    """What every signed message states. `seq` rises by one with each message of a boot; `boot` with each start."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: ClassVar[bytes]

    run: Run
    sender: Name
    to: Name | None = Field(description="None: everybody")
    boot: Count
    nonce: str = Field(pattern=r"^[0-9a-f]{8}$", description="tells two machines with one boot number apart")
    seq: Count
    round: Count = Field(description="that the sender is in")
    key: str = Field(pattern=r"^[0-9a-f]{16}$", description="id of the signing key")


class Heartbeat(Header):
    """Sign of life: where the sender stands and which plan it follows."""

    kind = b"H"

    plan: Digest
    view: Digest | None = Field(description="plan without those that are absent; None: alone")
    absent: list[Name] = Field(max_length=1024)
    next_plan: Digest | None
    next_round: Count


class Offer(Header):
    """Manifest of a model that the receiver may fetch."""

    kind = b"O"

    number: Count = Field(description="of the offer; stays when it is repeated, under another `seq`")
    mix: Count = Field(description="round in which the receiver mixes it; 0: the sender's latest, asked for by Pull")
    of: Count = Field(description="round after whose training the model was taken")
    view: Digest | None
    model_schema: Digest
    codec: Codec
    base: Digest | None = Field(description="SHA-256 of the model that topk changes")
    raw_bytes: Count
    body_bytes: Count
    body_sha256: Digest
    model_sha256: Digest
    ttl_ms: Count = Field(description="from its arrival; no two robots need the same clock")
    pushed: Count = Field(description="first chunks that follow this message unasked")

    @property
    def chunks(self) -> int:
        """Number of chunks of the body."""
        return -(-self.body_bytes // CHUNK_BYTES)


class Want(Header):
    """Asks for chunks of an offer: the first `credit` of those in `missing`, a bitmap in hex, chunk 0 lowest."""

    kind = b"W"

    offer: Count = Field(description="`number` of the offer")
    missing: str = Field(pattern=r"^[0-9a-f]{1,50000}$")
    credit: int = Field(ge=1, le=1024)


class Ack(Header):
    """What became of an offer."""

    kind = b"A"

    offer_boot: Count
    offer: Count
    mix: Count
    code: Code


class Pull(Header):
    """Asks for the latest model, to join or to come back."""

    kind = b"P"


class Ping(Header):
    """Asks for an answer at once, and says what its sender knows of its links."""

    kind = b"I"

    number: Count = Field(description="rises with each ping of a boot")
    latency_us: dict[Name, Count] = Field(max_length=256, description="half a round trip to each other robot")
    received_bps: dict[Name, Count] = Field(max_length=256, description="at which models came from each other robot")


class Pong(Header):
    """The answer to a ping."""

    kind = b"R"

    ping: Count = Field(description="`number` of the ping")


class Leave(Header):
    """The sender goes: the others close the gap at once instead of waiting for signs of life."""

    kind = b"L"


@dataclass(frozen=True)
class Chunk:
    """A piece of an offer's body; not signed, so its sender is who the transport says."""

    boot: int
    offer: int
    index: int
    data: bytes

    def encode(self) -> bytes:
        """Bytes of the message."""
        head = _CHUNK.pack(self.boot, self.offer, self.index, zlib.crc32(self.data))
        return b"".join((MAGIC, b"C", head, self.data))


@dataclass(frozen=True)
class Signed:
    """A header that was read and not yet verified."""

    header: Header
    signed: bytes
    signature: bytes

    def verify(self, key: bytes) -> None:
        """Refuse a signature that is not of this raw public key (32 bytes)."""
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(self.signature, self.signed)
        except (InvalidSignature, ValueError):
            who = self.header.sender
            raise Refused(Code.SIGNATURE, f"a message in the name of {who} is not signed by its key.") from None


KINDS: dict[bytes, type[Header]] = {one.kind: one for one in (Heartbeat, Offer, Want, Ack, Pull, Ping, Pong, Leave)}


def encode(header: Header, key: Ed25519PrivateKey) -> bytes:
    """Bytes of a signed message."""
    content = header.kind + _canonical(header)
    return b"".join((MAGIC, content, key.sign(DOMAIN + content)))


def is_chunk(message: bytes) -> bool:
    """Whether a message is a piece of a body, by its first bytes."""
    return message[: len(MAGIC) + 1] == MAGIC + b"C"


def decode(message: bytes) -> Signed | Chunk:
    """Read a message. Its signature is not verified yet.

    Raises
    ------
    Refused
        MALFORMED, OVERSIZE, or CHECKSUM of a chunk.
    """
    if len(message) > MAX_MESSAGE:
        raise Refused(Code.OVERSIZE, f"a message has {len(message):,} bytes, expected {MAX_MESSAGE:,} at most.")
    if not message.startswith(MAGIC):
        raise Refused(Code.MALFORMED, "a message does not begin as one of this protocol's version.")
    kind = message[len(MAGIC) : len(MAGIC) + 1]
    if is_chunk(message):
        return _chunk(message)
    content, signature = message[len(MAGIC) : -SIGNATURE_BYTES], message[-SIGNATURE_BYTES:]
    if kind not in KINDS or len(message) <= len(MAGIC) + 1 + SIGNATURE_BYTES:
        raise Refused(Code.MALFORMED, "a message is of no known kind, or it is cut off.")
    try:
        header = KINDS[kind].model_validate_json(content[1:])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(Code.MALFORMED, f"a {KINDS[kind].__name__} is malformed: {where} {first['msg']}.") from None
    if _canonical(header) != content[1:]:
        raise Refused(Code.MALFORMED, f"a {KINDS[kind].__name__} is not in canonical form.")
    return Signed(header, DOMAIN + content, signature)


def _chunk(message: bytes) -> Chunk:
    if len(message) <= _CHUNK_HEAD:
        raise Refused(Code.MALFORMED, "a chunk is empty or cut off.")
    boot, offer, index, crc = _CHUNK.unpack_from(message, len(MAGIC) + 1)
    data = message[_CHUNK_HEAD:]
    if zlib.crc32(data) != crc:
        raise Refused(Code.CHECKSUM, f"chunk {index} was damaged on its way.")
    return Chunk(boot, offer, index, data)


def _canonical(header: Header) -> bytes:
    return canonical_json(header.model_dump(mode="json"))


def bitmap(missing: set[int]) -> str:
    """Set of chunks as `Want.missing` has it."""
    found = 0
    for index in missing:
        found |= 1 << index
    return f"{found:x}"


def chunks_of(missing: str, count: int) -> list[int]:
    """First chunks that a bitmap names, at most `count`, rising."""
    left, found = int(missing, 16), list[int]()
    while left and len(found) < count:
        lowest = left & -left
        found.append(lowest.bit_length() - 1)
        left ^= lowest
    return found
