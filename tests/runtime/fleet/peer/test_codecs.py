"""How models travel: what each codec keeps, what it refuses, and that no body costs more than it says."""

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from safetensors.numpy import save

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.fleet.peer import codecs

zstandard = pytest.importorskip("zstandard")

models = stn.arrays(np.float32, st.integers(1, 700), elements=st.floats(-60000, 60000, width=32))


def there_and_back(codec, model, base=None, keep=0.1):
    return codecs.decode(codec, codecs.encode(codec, model, base, keep), len(model), base)


@given(models)
@settings(max_examples=60, deadline=None)
def test_fp32_brings_every_bit(model):
    assert there_and_back("fp32", model).tobytes() == model.tobytes()


@given(models)
@settings(max_examples=60, deadline=None)
def test_fp16_errs_by_half_a_step(model):
    error = np.abs(there_and_back("fp16", model) - model)
    assert (error <= np.maximum(np.abs(model) * 2**-11, 2**-25)).all()


@given(models)
@settings(max_examples=60, deadline=None)
def test_int8_errs_by_half_a_step_of_its_block(model):
    error = np.abs(there_and_back("int8", model) - model)
    for start in range(0, len(model), codecs.BLOCK):
        block = np.abs(model[start : start + codecs.BLOCK])
        assert error[start : start + codecs.BLOCK].max() <= block.max() / 254 * 1.001 + 1e-36


@given(models, st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_topk_brings_the_largest_changes_and_leaves_the_rest_for_later(model, keep):
    base = np.zeros_like(model)
    found = there_and_back("topk", model, base, keep)
    sent = found != base
    assert np.array_equal(found[sent], model[sent])
    left = np.abs(model[~sent]).max(initial=0)
    assert left <= np.abs(model[sent]).min(initial=np.inf) or not sent.any()
    assert sent.sum() <= max(1, int(np.ceil(keep * len(model))))


def test_repeated_topk_arrives_at_the_model():
    model = np.random.default_rng(0).normal(size=500).astype(np.float32)
    base = np.zeros_like(model)
    for _ in range(10):
        base = there_and_back("topk", model, base, 0.1)
    assert np.array_equal(base, model)


def test_fp16_refuses_a_weight_beyond_its_range():
    with pytest.raises(InputError, match="beyond fp16's 65504"):
        codecs.encode("fp16", np.array([7e4], np.float32))


def test_topk_needs_a_base_on_both_sides():
    model = np.ones(4, np.float32)
    with pytest.raises(InputError, match="send fp32 first"):
        codecs.encode("topk", model)
    with pytest.raises(InputError, match="ask for a full one"):
        codecs.decode("topk", codecs.encode("topk", model, model), 4)


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": np.zeros(3, np.float32)},
        {"w": np.zeros((2, 2), np.float32)},
        {"w": np.zeros(4, np.float64)},
        {"v": np.zeros(4, np.float32)},
        {"w": np.zeros(4, np.float32), "more": np.zeros(1, np.float32)},
        {},
    ],
)
def test_other_tensors_than_the_codecs_are_refused(tensors):
    with pytest.raises(InputError, match="do all robots train the same net"):
        codecs.decode("fp32", save(tensors), 4)


@pytest.mark.parametrize(
    ("step", "w"), [([5], [1]), ([0, 0], [1, 2]), ([], []), ([1, 2**32 - 1], [1, 2]), ([1], [1, 2])]
)
def test_topk_refuses_places_that_are_not_there(step, w):
    raw = save({"step": np.array(step, np.uint32), "w": np.array(w, np.float32)})
    with pytest.raises(InputError):
        codecs.decode("topk", raw, 4, np.zeros(4, np.float32))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_bring_anything_but_a_model_or_a_refusal(noise):
    for codec in codecs.CODECS:
        with contextlib.suppress(InputError):
            codecs.decode(codec, noise, 4, np.zeros(4, np.float32))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_header_brings_a_model_or_a_refusal(data):
    raw = bytearray(codecs.encode("int8", np.arange(300, dtype=np.float32)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        codecs.decode("int8", bytes(raw), 300)


def test_a_frame_that_claims_another_size_is_not_unpacked():
    bomb = codecs.compress(bytes(50 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(InputError, match="52428800 bytes, expected 1000"):
        codecs.decompress(bomb, 1000)


def test_a_frame_that_hides_its_size_or_is_followed_by_something_is_refused():
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 100)
    whole = codecs.compress(b"a" * 100)
    for body in (silent, whole + b"z", whole + whole, whole[:-1], b"", b"no frame"):
        with pytest.raises(InputError):
            codecs.decompress(body, 100)
    assert codecs.decompress(whole, 100) == b"a" * 100


@pytest.mark.parametrize("codec", codecs.CODECS)
def test_no_codec_makes_more_bytes_than_the_receiver_allows(codec):
    for size in (1, 255, 256, 257, 5000):
        model = np.random.default_rng(size).normal(size=size).astype(np.float32)
        raw = codecs.encode(codec, model, np.zeros_like(model), keep=1.0)
        assert len(raw) <= codecs.largest_raw(size)
        assert len(codecs.compress(raw)) <= codecs.largest_body(size)


def test_a_models_digest_is_that_of_its_bytes():
    model = np.array([1, -0.0, 3], np.float32)
    assert codecs.digest(model) == hashlib.sha256(model.tobytes()).hexdigest()
