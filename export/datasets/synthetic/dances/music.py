"""Synthesised music with known beats: drums, bass and chords in loops of four bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflock.runtime.audio.reading import SAMPLE_RATE

SLOWEST, FASTEST = 84.0, 156.0
"""Beats a minute."""


@dataclass(frozen=True, eq=False)
class Song:
    """Sound and its truth.

    Attributes
    ----------
    samples : ndarray
        float32 (n,) at `SAMPLE_RATE`.
    beats : ndarray
        s of every beat; every fourth begins a bar.
    bpm : float
    """

    samples: np.ndarray
    beats: np.ndarray
    bpm: float


def compose(seed: int, seconds: float) -> Song:
    """A song of so many s; the seed alone decides tempo, swing, chords and sounds."""
    rng = np.random.default_rng([seed, 31])
    bpm = float(rng.uniform(SLOWEST, FASTEST))
    beat, swing = 60 / bpm, float(rng.choice([0.5, 0.5, 0.58, 0.64]))
    start = float(rng.uniform(0.05, beat))
    beats = np.arange(start, seconds, beat)
    out = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    root = rng.integers(33, 45)
    chords = rng.choice([0, 2, 3, 5, 7, 8, 10], 4)
    pattern = rng.random((3, 8)) < np.array([[0.25], [0.2], [0.8]])  # kick, snare, hat on the eighths between
    kick, snare, hat = _kick(rng), _noise(rng, 0.18, 14), _noise(rng, 0.05, 60)
    for count, time in enumerate(beats):
        chord = root + chords[count // 4 % 4]
        _add(out, time, kick, 0.9 if count % 2 == 0 else 0.35)
        _add(out, time, snare, 0.45 if count % 2 else 0)
        _add(out, time, hat, 0.2)
        _add(out, time, _note(chord - 12, beat * 0.9, rng, 5), 0.4 if count % 4 == 0 else 0.2)
        half = time + swing * beat
        for sound, on, loud in zip((kick, snare, hat), pattern[:, count % 8], (0.4, 0.2, 0.15), strict=True):
            _add(out, half, sound, loud if on else 0)
        if count % 4 == 0:
            for step in (12, 12 + int(rng.choice([3, 4])), 19):
                _add(out, time, _note(chord + step, 4 * beat, rng, 1), 0.08)
    out += rng.normal(0, 0.002, len(out)).astype(np.float32)
    return Song(out / max(1.0, float(np.abs(out).max())) * 0.9, beats, bpm)


def _add(out: np.ndarray, time: float, sound: np.ndarray, loud: float) -> None:
    at = round(time * SAMPLE_RATE)
    part = out[at : at + len(sound)]
    part += loud * sound[: len(part)]


def _kick(rng: np.random.Generator) -> np.ndarray:
    t = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    return (np.sin(2 * np.pi * (rng.uniform(45, 60) * t + 6 * (1 - np.exp(-30 * t)) / 3)) * np.exp(-14 * t)).astype(
        np.float32
    )


def _noise(rng: np.random.Generator, seconds: float, fall: float) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (rng.normal(0, 0.5, len(t)) * np.exp(-fall * t)).astype(np.float32)


def _note(pitch: int, seconds: float, rng: np.random.Generator, fall: float) -> np.ndarray:
    """A tone with overtones; `pitch` counts semitones, 69 is 440 Hz."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hz = 440 * 2 ** ((pitch - 69) / 12)
    tone = sum(np.sin(2 * np.pi * k * hz * t) / k**1.5 for k in range(1, 6))
    return (tone * np.exp(-fall * t) * np.minimum(1, t * 200)).astype(np.float32)
