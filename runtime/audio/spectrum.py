"""Short spectra of sound and what is read off them; every function takes rows and gives rows."""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.audio.reading import SAMPLE_RATE


def mel_of_hz(hz: np.ndarray | float) -> np.ndarray:
    """Slaney's mel scale: even below 1 kHz, logarithmic above (Auditory Toolbox, 1998)."""
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def hz_of_mel(mel: np.ndarray) -> np.ndarray:
    """The inverse of `mel_of_hz`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_filters(bands: int, size: int, rate: float = SAMPLE_RATE) -> np.ndarray:
    """Triangles (size // 2 + 1, bands), each of area 1 in Hz, from power spectra of `size` samples to mel bands."""
    edges = hz_of_mel(np.linspace(0, mel_of_hz(rate / 2), bands + 2))
    hz = np.arange(size // 2 + 1)[:, None] * rate / size
    rising = (hz - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hz) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])


def pitch_filters(size: int, low: float = 55.0, high: float = 2000.0, rate: float = SAMPLE_RATE) -> np.ndarray:
    """Weights (size // 2 + 1, 12) from power spectra to the pitch classes C to B, between `low` and `high` Hz."""
    hz = np.maximum(np.arange(size // 2 + 1) * rate / size, 1e-3)
    semitone = 12 * np.log2(hz / 440) + 9  # C is 0
    away = (semitone[:, None] - np.arange(12) + 6) % 12 - 6
    return np.where(((hz > low) & (hz < high))[:, None], np.exp(-2 * away**2), 0)


class Frames:
    """Windowed power spectra of a stream of samples, one every `hop`; the frame's middle is its time.

    Parameters
    ----------
    size, hop : int
        Samples of a spectrum, and from one to the next.
    """

    def __init__(self, size: int, hop: int) -> None:
        self._size, self._hop = size, hop
        self._window = np.hanning(size + 1)[:-1].astype(np.float32)
        self._kept = np.zeros(size // 2, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Power spectra float32 (n, size // 2 + 1) that these samples complete."""
        self._kept = np.concatenate([self._kept, samples])
        count = max(0, (len(self._kept) - self._size) // self._hop + 1)
        if not count:
            return np.zeros((0, self._size // 2 + 1), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(self._kept, self._size)[:: self._hop][:count]
        power = np.abs(np.fft.rfft(frames * self._window, axis=1)) ** 2
        self._kept = self._kept[count * self._hop :]
        return power.astype(np.float32)
