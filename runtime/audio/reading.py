"""Sound files (wav, flac, ogg, mp3, ...) as mono blocks at one sample rate, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np

from edgeflock.runtime.errors import DataError
from edgeflock.runtime.extras import needs

SAMPLE_RATE = 15_360
"""Samples a second of all features: 512 make a frame at 30 Hz (as in EDGE), 128 a frame at 120 Hz."""
BLOCK = 1 << 15
SHORTEST = 0.5
"""Music below so many s has no beat to dance to."""

_ZEROS = 16  # zero crossings of the resampler's sinc on each side
_BETA = 8.0  # of its Kaiser window: about 80 dB


def sound_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """Mono float32 blocks at `SAMPLE_RATE` of a sound file.

    Raises
    ------
    DataError
        No such file, not a sound file, damaged, shorter than `SHORTEST`, silent, or with NaN.
    MissingExtra
        soundfile is not installed.
    """
    with needs("reading music", "dance"):
        import soundfile

    path, loudest, length = Path(path), 0.0, 0
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected music as wav, flac or ogg.")
    try:
        with soundfile.SoundFile(path) as file:
            resample = Resampler(file.samplerate)
            while len(block := file.read(BLOCK, "float32", always_2d=True)):
                mono = block.mean(1)
                if not np.isfinite(mono).all():
                    raise DataError(f"{path}: the samples must be finite, got NaN or infinity: convert it again.")
                loudest, length = max(loudest, float(np.abs(mono).max())), length + len(mono)
                yield resample(mono)
            yield resample.rest()
            seconds = length / file.samplerate
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: expected music as wav, flac or ogg ({error}).") from None
    if seconds < SHORTEST:
        raise DataError(f"{path}: expected at least {SHORTEST} s of music, got {seconds:.3f} s.")
    if loudest < 1e-4:
        raise DataError(f"{path}: the music is silent (peak {loudest:.1g} of 1): there is nothing to dance to.")


class Resampler:
    """Samples of any rate to `SAMPLE_RATE`, block by block, by a windowed sinc; the blocks' sizes change nothing.

    Parameters
    ----------
    rate : int
        Samples a second of what comes.
    """

    def __init__(self, rate: int) -> None:
        divisor = gcd(rate, SAMPLE_RATE)
        self._up, self._down = SAMPLE_RATE // divisor, rate // divisor
        cut = min(1.0, SAMPLE_RATE / rate)  # of the lower of both Nyquist frequencies
        self._half = int(np.ceil(_ZEROS / cut))
        place = np.arange(-self._half, self._half + 1) - np.arange(self._up)[:, None] / self._up
        window = np.i0(_BETA * np.sqrt(np.maximum(0, 1 - (place / (self._half + 1)) ** 2))) / np.i0(_BETA)
        kernels = np.sinc(cut * place) * window
        self._kernels = (kernels / kernels.sum(1, keepdims=True)).astype(np.float32)
        self._kept = np.zeros(self._half, np.float32)
        self._before = -self._half  # place of the first kept sample
        self._made = 0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Samples float32 that this block allows, some 1 ms behind it."""
        if self._up == self._down:
            return block
        self._kept = np.concatenate([self._kept, block])
        end = self._before + len(self._kept) - self._half
        count = max(0, -(-end * self._up // self._down) - self._made)
        whole, phase = np.divmod((self._made + np.arange(count)) * self._down, self._up)
        out = np.empty(count, np.float32)
        first = whole - self._half - self._before
        taps = np.arange(2 * self._half + 1)
        for part in range(0, count, 2048):
            rows = slice(part, part + 2048)
            out[rows] = np.einsum("ij,ij->i", self._kept[first[rows, None] + taps], self._kernels[phase[rows]])
        self._made += count
        needed = self._made * self._down // self._up - self._half
        drop = max(0, needed - self._before)
        self._kept, self._before = self._kept[drop:], self._before + drop
        return out

    def rest(self) -> np.ndarray:
        """The last samples, after which nothing comes."""
        return self(np.zeros(self._half, np.float32)) if self._up != self._down else np.zeros(0, np.float32)
