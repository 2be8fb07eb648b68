"""The engine cache: only the engine of exactly this key is loaded, and a miss says what differs."""

import os

import pytest

from edgeflock.runtime.engines.cache import EngineCache, file_sha256
from edgeflock.runtime.errors import EngineError

KEY = {"onnx": "ab" * 32, "precision": "fp16", "tensorrt": "10.3.0", "sm": "8.7", "driver": "36.4.3"}


@pytest.fixture
def cache(tmp_path):
    return EngineCache("tensorrt", tmp_path)


def test_what_was_stored_comes_back_for_the_same_key_only(cache):
    cache.store(KEY, b"engine")
    assert cache.load(dict(reversed(KEY.items()))) == b"engine"
    for field in KEY:
        assert cache.load(KEY | {field: "other"}) is None


def test_the_first_miss_says_that_there_is_nothing_yet(cache):
    assert "holds no engine yet" in cache.miss(KEY)


def test_a_miss_names_the_fields_in_which_the_nearest_entry_differs(cache):
    cache.store(KEY | {"onnx": "cd" * 32, "precision": "fp32", "sm": "7.2"}, b"far")
    cache.store(KEY | {"tensorrt": "8.5.2", "driver": "35.4.1"}, b"near")
    miss = cache.miss(KEY)
    assert "(2 there)" in miss
    assert miss.endswith("differs in: driver was 35.4.1, is 36.4.3, tensorrt was 8.5.2, is 10.3.0")


def test_hashes_are_shortened_and_absent_fields_named(cache):
    cache.store({name: value for name, value in KEY.items() if name != "driver"} | {"onnx": "cd" * 32}, b"old")
    assert cache.miss(KEY).endswith("driver was not set, is 36.4.3, onnx was cdcdcdcdcdcd..., is abababababab...")


def test_stale_engines_are_kept(cache):
    old = cache.store(KEY | {"driver": "35.4.1"}, b"old")
    cache.store(KEY, b"new")
    assert old.exists() and cache.load(KEY) == b"new"


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "huge header", "not ours", "another's header"])
def test_a_damaged_entry_is_a_miss_that_says_so(cache, harm):
    path = cache.store(KEY, b"engine" * 100)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-1],
            "flip": data[:-1] + bytes([data[-1] ^ 1]),
            "empty": b"",
            "huge header": b"\xff\xff\xff\xff" + data[4:],
            "not ours": b"\x02\x00\x00\x00[]" + data,
            "another's header": cache.store(KEY | {"sm": "7.2"}, b"engine" * 100).read_bytes(),
        }[harm]
    )
    assert cache.load(KEY) is None
    assert "damaged" in cache.miss(KEY)


def test_a_write_that_fails_leaves_nothing_behind(cache, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match=r"No space left.*EDGEFLOCK_ENGINE_CACHE"):
        cache.store(KEY, b"engine")
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"cannot be written.*chown.*EDGEFLOCK_ENGINE_CACHE"):
        EngineCache("tensorrt", tmp_path / "file")


def test_the_folder_is_the_users_unless_the_environment_names_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGEFLOCK_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert EngineCache("qnn").folder == tmp_path / "home" / ".cache" / "edgeflock" / "engines" / "qnn"
    monkeypatch.setenv("EDGEFLOCK_ENGINE_CACHE", str(tmp_path / "disk"))
    assert EngineCache("qnn").folder == tmp_path / "disk" / "qnn"


def test_a_net_that_cannot_be_read_is_refused_with_its_name(tmp_path):
    with pytest.raises(EngineError, match=r"gone\.onnx cannot be read"):
        file_sha256(tmp_path / "gone.onnx")
