"""Beats of music as it comes: tempo by autocorrelation, then the best chain of onsets.

Ellis, "Beat tracking by dynamic programming", Journal of New Music Research 36 (2007), made causal: the tempo is that
of the last seconds, and a beat is told once the chain that ends now has stood for `DELAY` s.
"""

from __future__ import annotations

import numpy as np

HZ = 120
"""Onset strengths a second; at 30 Hz only 120, 128.6, 138.5, ... beats a minute are periods of whole frames."""
DELAY = 3.0
"""s from the sound of a beat until it is told."""
SLOWEST, FASTEST = 50.0, 210.0
"""Beats a minute that are looked for."""

_MEMORY = 8 * HZ  # onsets that tell the tempo
STEP = HZ // 2
"""Onsets from one look at the tempo to the next."""
_TIGHT = 100.0  # how much a beat off its time costs (Ellis: 400 to 680 on another scale)
_USUAL, _OCTAVES = 120.0, 0.9  # beats a minute that are most likely, and the width of that belief
_DELAY = int(DELAY * HZ)


class BeatTracker:
    """Beats of a stream of onset strengths at `HZ`.

    Attributes
    ----------
    period : float
        Frames from beat to beat as of now.
    """

    def __init__(self) -> None:
        self.period = HZ * 60 / _USUAL
        self._onsets = np.zeros(0)
        self._scores = np.zeros(0)
        self._links = np.zeros(0, int)
        self._first = 0  # frame of the first that is kept
        self._told = -1

    @property
    def now(self) -> int:
        """Frames that came."""
        return self._first + len(self._onsets)

    def __call__(self, onsets: np.ndarray) -> list[int]:
        """Frames of the beats that became sure with these `STEP` onsets."""
        self._extend(onsets)
        self._look_at_tempo()
        return self._sure(self.now - _DELAY)

    def rest(self) -> list[int]:
        """The last beats, after which nothing comes."""
        return self._sure(self.now)

    def _extend(self, onsets: np.ndarray) -> None:
        """Scores of the best chains that end at these onsets."""
        level = max(float(np.std(self._onsets[-_MEMORY:])) if len(self._onsets) > STEP else 0.0, 1e-6)
        known = len(self._onsets)
        self._onsets = np.concatenate([self._onsets, onsets])
        scores = np.concatenate([self._scores, np.zeros(len(onsets))])
        links = np.concatenate([self._links, np.full(len(onsets), -1)])
        shortest, longest = int(self.period / 2), int(2 * self.period)
        lags = np.arange(shortest, longest + 1)
        cost = _TIGHT * np.log(lags / self.period) ** 2
        for i in range(known, len(scores)):
            gain = min(self._onsets[i] / level, 8.0)
            reach = min(i, longest) - shortest + 1
            if reach > 0:
                chains = scores[i - shortest - reach + 1 : i - shortest + 1][::-1] - cost[:reach]
                best = int(chains.argmax())
                if chains[best] > 0:
                    scores[i], links[i] = gain + chains[best], self._first + i - shortest - best
                    continue
            scores[i] = gain
        self._scores, self._links = scores, links

    def _look_at_tempo(self) -> None:
        """Period with the most self-similar onsets, near what is usual and near what it was."""
        recent = self._onsets[-_MEMORY:]
        if len(recent) < 2 * HZ:
            return
        recent = recent - recent.mean()
        size = 1 << (2 * len(recent) - 1).bit_length()
        spectrum = np.fft.rfft(recent, size)
        alike = np.fft.irfft(spectrum * spectrum.conj(), size)[: len(recent)]
        lags = np.arange(int(HZ * 60 / FASTEST), int(HZ * 60 / SLOWEST) + 1)
        lags = lags[2 * lags + 1 < len(alike)]
        if alike[0] <= 0 or not len(lags):
            return
        alike = alike / alike[0] / (1 - np.arange(len(alike)) / len(recent))
        # A beat repeats also after two of its periods, an off-beat does not.
        score = alike[lags] + 0.5 * np.max([alike[2 * lags - 1], alike[2 * lags], alike[2 * lags + 1]], 0)
        belief = np.exp(-0.5 * (np.log2(HZ * 60 / lags / _USUAL) / _OCTAVES) ** 2)
        if len(recent) == _MEMORY:
            belief = belief * (0.5 + 0.5 * np.exp(-0.5 * (np.log2(lags / self.period) / 0.1) ** 2))
        best = int((score * belief).argmax())
        lag = float(lags[best])
        if 0 < best < len(lags) - 1:  # the top of a parabola through three
            left, mid, right = alike[lags[best - 1 : best + 2]]
            bend = left - 2 * mid + right
            if bend < 0:
                lag += float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
        self.period = lag

    def _sure(self, until: int) -> list[int]:
        """Beats before frame `until` on the best chain that ends in the last period, and forget what is older."""
        found: list[int] = []
        if len(self._scores):
            tail = max(0, len(self._scores) - int(self.period))
            at = self._first + tail + int(self._scores[tail:].argmax())
            while at > self._told and at >= self._first:
                if at < until:
                    found.append(at)
                at = int(self._links[at - self._first])
            found = [beat for beat in found[::-1] if beat - self._told > self.period / 2 or self._told < 0]
            if found:
                self._told = found[-1]
        drop = max(0, len(self._scores) - _MEMORY - _DELAY)
        self._onsets, self._scores, self._links = (kept[drop:] for kept in (self._onsets, self._scores, self._links))
        self._first += drop
        if len(self._scores):  # scores only grow: keep them small over hours
            self._scores = self._scores - max(0.0, float(self._scores.min()))
        return found
