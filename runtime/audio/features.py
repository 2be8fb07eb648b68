"""Features of music at 30 Hz: 52 a frame, of our own, that a robot computes as the music comes.

What a live music clock knows is among them: the phase of beat and bar as sine and cosine, so that a net sees the next
beat come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeflock.runtime.audio.beats import DELAY, HZ, STEP, BeatTracker
from edgeflock.runtime.audio.reading import SAMPLE_RATE, sound_blocks
from edgeflock.runtime.audio.spectrum import Frames, mel_filters, pitch_filters

RATE = 30
"""Frames a second."""
PARTS = (
    ("log-mel", 32),
    ("chroma", 12),
    ("loudness", 1),
    ("onset strength", 1),
    ("onset peak", 1),
    ("beat", 1),
    ("beat phase", 2),
    ("bar phase", 2),
)
"""Columns in their order. Log-mel and loudness are 0 at -60 dB and 1 at full scale, chroma has the length 1, onset
strength is the mean rise of the log-mel bands, phases are sine and cosine; a bar has four beats."""
SIZE = sum(size for _, size in PARTS)

_MELS, _SHORT, _LONG = 32, 1024, 4096
_EVERY = HZ // RATE
_HOP = SAMPLE_RATE // HZ
_QUANTUM = STEP * _HOP  # samples that are worked on at a time, so that blocks of any size give the same numbers
_WAIT = 2 * HZ  # frames that wait for the beat after them, beyond what is sure
_FLOOR = 1e-6
_BASS = 3  # mel bands that tell the first beat of a bar
_FORGET = 0.97  # a beat, of what the bass said


@dataclass(frozen=True, eq=False)
class Music:
    """Features of music and its beats.

    Attributes
    ----------
    features : ndarray
        float32 (T, `SIZE`) at `RATE`.
    beats : ndarray
        s, ascending.
    """

    features: np.ndarray
    beats: np.ndarray


def features_of(path: str | Path) -> Music:
    """Features of a sound file; errors as for `sound_blocks`."""
    return features_of_blocks(sound_blocks(path))


def features_of_blocks(blocks: Iterable[np.ndarray]) -> Music:
    """Features of all blocks of samples at `SAMPLE_RATE`."""
    stream = MusicStream()
    parts = [stream(block) for block in blocks]
    parts.append(stream.rest())
    return Music(np.concatenate(parts), np.array(stream.beats) / HZ)


class MusicStream:
    """Features of music as it comes, some 4 s behind it: that long it takes until a beat is sure.

    Memory does not grow with the music's length, but for 8 bytes a beat.

    Attributes
    ----------
    beats : list of int
        At 120 Hz, all so far.
    """

    def __init__(self) -> None:
        self.beats: list[int] = []
        self._tracker = BeatTracker()
        self._short, self._long = Frames(_SHORT, _HOP), Frames(_LONG, _HOP * _EVERY)
        # A sine of full scale has the power 1 in the end.
        self._mel = (mel_filters(_MELS, _SHORT) * 16 / _SHORT**2 * 100).astype(np.float32)
        self._pitch = pitch_filters(_LONG).astype(np.float32)
        self._pending = np.zeros(0, np.float32)
        self._samples = 0
        self._last = np.zeros((1, _MELS), np.float32)
        self._fine: dict[str, np.ndarray] = {"onset": np.zeros(0, np.float32), "bass": np.zeros(0, np.float32)}
        self._mels = np.zeros((0, _MELS), np.float32)
        self._chroma = np.zeros((0, 12), np.float32)
        self._fine_first, self._frames_first = 0, 0  # of what is kept: at 120 Hz, at 30 Hz
        self._done = 0  # frames at 30 Hz that were given
        self._bars = np.zeros(4)
        self._counted = 0  # beats that the bars know
        self._downs: list[int] = []  # by beat, of the last ones: its place in the bar

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Rows float32 (n, `SIZE`) that samples (n,) at `SAMPLE_RATE` complete."""
        self._pending = np.concatenate([self._pending, samples.astype(np.float32, copy=False)])
        self._samples += len(samples)
        rows = [np.zeros((0, SIZE), np.float32)]
        while len(self._pending) >= _QUANTUM:
            quantum, self._pending = self._pending[:_QUANTUM], self._pending[_QUANTUM:]
            self._hear(quantum)
            sure = self._tracker.now - int(DELAY * HZ)
            last = self.beats[-1] if self.beats else 0
            rows.append(self._rows(max(last, sure - _WAIT) // _EVERY))
        return np.concatenate(rows)

    def rest(self) -> np.ndarray:
        """The last rows, after which nothing comes; in all there are `RATE` a second."""
        whole = int(np.ceil(self._samples * RATE / SAMPLE_RATE))
        silence = np.zeros(_QUANTUM, np.float32)
        self._hear(np.concatenate([self._pending, silence])[:_QUANTUM])
        while self._frames_first + min(len(self._mels), len(self._chroma)) < whole:
            self._hear(silence)
        self._note([beat for beat in self._tracker.rest() if beat < whole * _EVERY])
        return self._rows(whole)

    def _hear(self, quantum: np.ndarray) -> None:
        power = self._short(quantum)
        mel = np.log10(power @ self._mel + _FLOOR) / 6 + 1
        rise = np.maximum(0, np.diff(np.concatenate([self._last, mel]), axis=0))
        self._last = mel[-1:] if len(mel) else self._last
        onset = rise.mean(1)
        first = self._fine_first + len(self._fine["onset"])
        self._fine["onset"] = np.concatenate([self._fine["onset"], onset])
        self._fine["bass"] = np.concatenate([self._fine["bass"], rise[:, :_BASS].sum(1)])
        self._mels = np.concatenate([self._mels, mel[-first % _EVERY :: _EVERY]])
        pitch = self._long(quantum) @ self._pitch
        self._chroma = np.concatenate([self._chroma, pitch / np.maximum(np.linalg.norm(pitch, axis=1), 1e-9)[:, None]])
        self._note(self._tracker(onset))

    def _note(self, beats: list[int]) -> None:
        """Beats that became sure, each with its place in a bar: the first is where the bass is strongest."""
        for beat in beats:
            at = beat - self._fine_first
            heard = self._fine["bass"][max(0, at - 3) : at + 4]
            self._bars *= _FORGET
            self._bars[len(self.beats) % 4] += heard.max() if len(heard) else 0
            self._downs.append((len(self.beats) - int(self._bars.argmax())) % 4)
            self.beats.append(beat)

    def _rows(self, until: int) -> np.ndarray:
        """Rows of the frames at 30 Hz before `until` that were not given yet."""
        frames = np.arange(self._done, max(self._done, until))
        if not len(frames):
            return np.zeros((0, SIZE), np.float32)
        own = frames - self._frames_first
        mel, chroma = self._mels[own], self._chroma[own]
        fine = frames[:, None] * _EVERY - self._fine_first
        onsets = self._fine["onset"]

        def strongest(first: int, after: int) -> np.ndarray:
            """Of the fine onsets from `first` to before `after` around every frame."""
            around = np.clip(fine + np.arange(first, after), 0, len(onsets) - 1)
            return onsets[around].max(1)

        onset = strongest(-2, 2)
        peak = (onset > 0.01) & (onset >= strongest(-12, 12))
        beat, phase, bar = self._phases(frames)
        loudness = np.log10((10 ** (6 * (mel - 1))).mean(1) + _FLOOR) / 6 + 1
        turns = 2 * np.pi * np.stack([phase, bar])
        columns = [mel, chroma, loudness, onset * 10, peak, beat]
        columns += [np.sin(turns[0]), np.cos(turns[0]), np.sin(turns[1]), np.cos(turns[1])]
        self._done = until
        self._forget()
        return np.column_stack(columns).astype(np.float32)

    def _phases(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether a beat falls on each frame, and the phases 0..1 of beat and bar; even where no beat is known."""
        recent = self.beats[-len(self._downs) :] if self._downs else []
        period = self._tracker.period
        known = np.array(recent if recent else [0.0]) / _EVERY
        places = np.array(self._downs or [0])
        after = np.searchsorted(known, frames + 0.5)  # a beat belongs to the nearest frame
        before = after - 1
        start = np.where(before >= 0, known[np.maximum(before, 0)], known[0])
        end = np.where(after < len(known), known[np.minimum(after, len(known) - 1)], start + period / _EVERY)
        inside = (before >= 0) & (after < len(known))
        phase = np.where(inside, (frames - start) / np.maximum(end - start, 1), (frames - start) * _EVERY / period)
        place = np.where(before >= 0, places[np.maximum(before, 0)], places[0])
        beat = np.zeros(len(frames), bool)
        nearest = np.rint(known).astype(int) - frames[0]
        if recent:
            beat[nearest[(nearest >= 0) & (nearest < len(frames))]] = True
        return beat, phase % 1, ((place + phase) / 4) % 1

    def _forget(self) -> None:
        """Drop what no later row needs."""
        drop = max(0, self._done - RATE - self._frames_first)
        self._mels, self._chroma = self._mels[drop:], self._chroma[drop:]
        self._frames_first += drop
        drop = max(0, (self._done - RATE) * _EVERY - self._fine_first)
        self._fine = {name: kept[drop:] for name, kept in self._fine.items()}
        self._fine_first += drop
        self._downs = self._downs[-64:]
