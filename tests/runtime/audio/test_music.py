"""Music: files in, features as a stream, beats that are known."""

import numpy as np
import pytest

from edgeflock.runtime.audio.features import PARTS, SIZE, MusicStream, features_of, features_of_blocks
from edgeflock.runtime.audio.reading import SAMPLE_RATE, Resampler, sound_blocks
from edgeflock.runtime.audio.spectrum import Frames, hz_of_mel, mel_of_hz
from edgeflock.runtime.errors import DataError

soundfile = pytest.importorskip("soundfile")
RNG = np.random.default_rng(1)


def clicks(bpm, seconds, rate=SAMPLE_RATE):
    """A decaying burst on every beat, the first of four louder and lower."""
    out = RNG.normal(0, 1e-3, int(seconds * rate))
    beats = np.arange(0.3, seconds - 0.1, 60 / bpm)
    t = np.arange(int(0.08 * rate)) / rate
    for count, beat in enumerate(beats):
        at = int(beat * rate)
        hz, loud = (90, 0.8) if count % 4 == 0 else (400, 0.4)
        out[at : at + len(t)] += loud * np.sin(2 * np.pi * hz * t) * np.exp(-30 * t)
    return out.astype(np.float32), beats


@pytest.fixture(scope="module")
def song():
    return clicks(112, 16)


def column(features, name):
    start = 0
    for part, size in PARTS:
        if part == name:
            return features[:, start : start + size]
        start += size


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_tone_of_any_file_and_rate_keeps_its_pitch(suffix, rate, tmp_path):
    t = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / f"a.{suffix}", np.stack([tone, tone], 1), rate)
    heard = np.concatenate(list(sound_blocks(tmp_path / f"a.{suffix}")))
    assert len(heard) == pytest.approx(SAMPLE_RATE, abs=2)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(heard)) / SAMPLE_RATE)
    assert np.abs(heard - wanted)[500:-500].max() < (0.03 if suffix == "ogg" else 2e-3)


def test_the_resampler_lets_nothing_above_the_new_limit_through():
    t = np.arange(44100) / 44100
    heard = Resampler(44100)(np.sin(2 * np.pi * 12000 * t).astype(np.float32))
    assert np.abs(heard[500:]).max() < 2e-3


@pytest.mark.parametrize(
    ("samples", "rate", "told"),
    [
        (np.zeros(44100), 44100, "silent"),
        (np.ones(80), 8000, "at least 0.5 s of music, got 0.010 s"),
        (np.array([0.1, np.nan] * 8000), 8000, "NaN"),
    ],
)
def test_what_nobody_can_dance_to_is_refused(samples, rate, told, tmp_path):
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    with pytest.raises(DataError, match=rf"a\.wav: .*{told}"):
        list(sound_blocks(tmp_path / "a.wav"))


@pytest.mark.parametrize("content", [b"", b"no sound at all", b"RIFF\xff\xff\xff\xffWAVEfmt "])
def test_a_file_that_is_no_sound_is_refused(content, tmp_path):
    (tmp_path / "a.ogg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.ogg: expected"):
        list(sound_blocks(tmp_path / "a.ogg"))
    with pytest.raises(DataError, match="no such file"):
        list(sound_blocks(tmp_path / "b.ogg"))


def test_clipped_music_has_sound_features(tmp_path, song):
    soundfile.write(tmp_path / "a.wav", np.clip(song[0][: 4 * SAMPLE_RATE] * 20, -1, 1), SAMPLE_RATE)
    features = features_of(tmp_path / "a.wav").features
    assert features.shape == (120, SIZE) and np.isfinite(features).all()


def test_blocks_of_any_size_give_the_same_numbers(song):
    samples = song[0]
    whole = features_of_blocks([samples])
    cuts = np.sort(RNG.integers(0, len(samples), 40))
    parts = features_of_blocks(np.split(samples, cuts))
    np.testing.assert_array_equal(parts.features, whole.features)
    np.testing.assert_array_equal(parts.beats, whole.beats)
    resampled = [Resampler(44100) for _ in range(2)]
    once = resampled[0](samples[:9000])
    np.testing.assert_array_equal(
        np.concatenate([resampled[1](part) for part in np.split(samples[:9000], [7, 4000])]), once
    )


def test_beats_are_found_where_they_are(song):
    music = features_of_blocks([song[0]])
    late = song[1][song[1] > 4]
    assert np.abs(late[:, None] - music.beats).min(1).max() < 0.04
    assert len(music.beats) == pytest.approx(len(song[1]), abs=2)
    assert len(music.features) == 16 * 30


def test_phases_of_beat_and_bar_turn_with_the_music(song):
    features = features_of_blocks([song[0]]).features
    frames = np.rint(song[1][song[1] > 8] * 30).astype(int)
    assert column(features, "beat phase")[frames, 1].min() > 0.8  # cosine: 1 on the beat
    downs = np.rint(song[1][::4][song[1][::4] > 8] * 30).astype(int)
    assert column(features, "bar phase")[downs, 1].min() > 0.8
    for name in ("beat phase", "bar phase"):
        np.testing.assert_allclose((column(features, name) ** 2).sum(1), 1, atol=1e-5)


def test_a_stream_forgets_what_is_over():
    stream, samples = MusicStream(), clicks(120, 10)[0]

    def held():
        return sum(a.nbytes for a in (stream._mels, stream._chroma, *stream._fine.values(), stream._tracker._scores))

    sizes = []
    for _ in range(6):
        stream(samples)
        sizes.append(held())
    assert sizes[-1] <= sizes[2] * 1.1


def test_the_mel_scale_is_slaneys():
    np.testing.assert_allclose(mel_of_hz([0, 1000, 6400]), [0, 15, 42], atol=1e-9)
    np.testing.assert_allclose(hz_of_mel(mel_of_hz(np.array([60.0, 999, 3000]))), [60, 999, 3000])


def test_a_spectrum_stands_at_its_middle():
    samples = np.zeros(2048, np.float32)
    samples[1024] = 1
    assert Frames(256, 128)(samples).sum(1).argmax() * 128 == 1024
