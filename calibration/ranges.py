"""Activation ranges of an ONNX graph from real samples: which values the 8 bits of each tensor shall span."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from edgeflock.calibration.histogram import Histogram, merged
from edgeflock.calibration.observe import OnProgress, observe
from edgeflock.calibration.shared import Shared
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.extras import needs

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime.quantization.calibrate import TensorsData

Method = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]

# FADNet's input norm lifts single bright pixels of dark frames to 30 sigma, for which "minmax" stretches the scale of
# all others: it loses 7 dB. 99.99 instead of 99.999 was seen to deviate as far as "minmax". "entropy" finds the
# trade-off for each tensor by itself and is the default (docs/calibration.md has the table).
PERCENTILE = 99.999
FEW_SAMPLES = 8  # fewer do not span what a net gets
OUTLYING = 1000  # times the 99.9 percentile
_POOL = 2  # entropy compares 2048 bins, as TensorRT does
_STRIDE = 8  # of its candidates, in bins
OUTPUT_MARGIN = 0.25
"""Where the answer is quantised too, each end of its range goes this share of the span further out, since the sharpest
turn of the calibration samples is not the sharpest there is."""
_SHRINK = 0.97 ** np.arange(1, 115)  # candidates of MSE: down to 1/32 of the extreme, 3 % apart


def activation_ranges(
    model: ModelProto,
    feeds: dict[str, np.ndarray],
    method: Method = "entropy",
    *,
    symmetric: bool = False,
    output_margin: float = 0.0,
    others: Sequence[Shared] = (),
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> TensorsData:
    """Range of every float activation of the graph, inputs and outputs included.

    The samples pass the net once, whatever the method: what was seen is cached and every method derives from it.

    Parameters
    ----------
    model, feeds, cache, on_progress
        See `edgeflock.calibration.observe.observe`.
    method : {"minmax", "moving-average", "percentile", "entropy", "mse"}
        See `range_of`.
    symmetric : bool
        Ranges for a form with zero point 0, which spans [-t, t].
    output_margin : float
        Share of its span by which each end of an output's range goes further out, for a form that quantises outputs.
    others : sequence of Shared
        What other robots saw with the same net; the ranges are then those of all.

    Returns
    -------
    onnxruntime.quantization.calibrate.TensorsData
        float32 (low, high) by tensor name, what `QDQQuantizer` takes as `tensors_range`.

    Raises
    ------
    InputError
        Unknown method, feeds that do not fit the net, an activation that is not finite, or others of another net.
    MissingExtra
        The onnx package is not installed.

    Warns
    -----
    UserWarning
        `doubts` about the samples.
    """
    if method not in get_args(Method):
        raise InputError(f"calibration method must be one of {', '.join(get_args(Method))}, got {method!r}.")
    for other in others:
        other.check(model)
    seen = observe(model, feeds, cache=cache, on_progress=on_progress)
    for doubt in doubts(feeds):
        warnings.warn(f"calibration: {doubt}", stacklevel=2)
    return ranges_of(
        model,
        merged([seen, *(other.histograms for other in others)]),
        method,
        symmetric=symmetric,
        output_margin=output_margin,
    )


def ranges_of(
    model: ModelProto, seen: dict[str, Histogram], method: Method, *, symmetric: bool, output_margin: float
) -> TensorsData:
    """Ranges of what was seen of a net; parameters and result as for `activation_ranges`."""
    with needs("Calibration", "export"):
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import TensorsData
    ranges = {}
    for name, histogram in seen.items():
        low, high = (np.float32(end) for end in range_of(histogram, method, symmetric))
        ranges[name] = low, high
    for output in model.graph.output:
        if output_margin and output.name in ranges:
            low, high = ranges[output.name]
            span = np.float32(output_margin) * (high - low)
            ranges[output.name] = low - span, high + span
    # "MinMax" is TensorsData's word for "nothing but a low and a high".
    return TensorsData(CalibrationMethod.MinMax, ranges)


def doubts(feeds: Mapping[str, np.ndarray]) -> list[str]:
    """Why samples are hardly what a net gets in service, one line for each reason.

    Parameters
    ----------
    feeds : mapping
        Input name to (N, ...).
    """
    found = []
    for name, feed in feeds.items():
        flat = np.abs(np.asarray(feed, np.float32).reshape(len(feed), -1))
        if len(flat) < FEW_SAMPLES:
            found.append(f"input {name!r} has {len(flat)} samples, ranges need {FEW_SAMPLES} or more: take 100 or so.")
        elif flat.shape[1] > 1 and (constant := int((np.ptp(flat, axis=1) == 0).sum())) > len(flat) / 2:
            found.append(f"in {constant} of {len(flat)} samples of input {name!r} all values are equal: take others.")
        most, usual = float(flat.max()), float(np.quantile(flat.ravel()[:: max(1, flat.size // 1_000_000)], 0.999))
        if most > OUTLYING * max(usual, 1e-6) and flat.size >= 1000:
            found.append(
                f"input {name!r} has the value {most:g} where 99.9 % are below {usual:g}: a broken sample (number "
                f"{int(flat.max(1).argmax())}) takes the 8 bits from all others."
            )
    return found


def range_of(histogram: Histogram, method: Method, symmetric: bool = False) -> tuple[float, float]:
    """Range that the 8 bits shall span; values beyond are clipped to its ends.

    Parameters
    ----------
    histogram : Histogram
        Of at least one sample.
    method : str
        - "minmax": everything that was seen.
        - "moving-average": mean over the samples of each one's smallest and largest value. (ONNX Runtime's calibrator
          of this name gives that for one batch and an average that depends on the order for several.)
        - "percentile": 99.999 % of the magnitudes.
        - "entropy": the threshold at which the quantised distribution tells least from the original
          (Kullback-Leibler; TensorRT's calibrator, GTC 2017 S7310).
        - "mse": the range with the least squared error after quantisation.
    symmetric : bool
        For [-t, t] with 127 steps of each sign, else [low, high] with 255 steps and a zero point.

    Returns
    -------
    tuple of float
        (low, high) with low <= high, within what was seen where not symmetric.
    """
    low, high = histogram.low, histogram.high
    if method == "moving-average":
        low, high = (math.fsum(ends) / histogram.samples for ends in (histogram.lows, histogram.highs))
    elif method != "minmax" and low < high:
        if method == "mse":
            low, high = _least_squares(histogram, symmetric)
        else:
            threshold = _percentile(histogram) if method == "percentile" else _entropy(histogram, symmetric)
            low, high = max(low, -threshold), min(high, threshold)
    if symmetric:
        high = max(-low, high)
        low = -high
    return low, high


def _percentile(histogram: Histogram) -> float:
    """Smallest bin edge with `PERCENTILE` of the magnitudes below it."""
    below = np.cumsum(histogram.magnitudes)
    return float(np.searchsorted(below, below[-1] * (PERCENTILE / 100)) + 1) * histogram.width


def _entropy(histogram: Histogram, symmetric: bool) -> float:
    """Threshold of least divergence, over magnitudes; 128 levels, or 256 where all values have one sign."""
    one_sign = not symmetric and (histogram.low >= 0 or histogram.high <= 0)
    levels = 256 if one_sign else 128
    counts = histogram.magnitudes.reshape(-1, _POOL).sum(1).astype(np.float64)
    counts = counts[: np.flatnonzero(counts)[-1] + 1]
    counts[:1] = counts[1:2].sum()  # exact zeros cost nothing at any scale: they shall not decide (as in TensorRT)
    candidates = [*range(levels, counts.size, _STRIDE), counts.size]
    best = min(candidates, key=lambda bins: _divergence(counts, bins, levels))
    return best * _POOL * histogram.width


def _divergence(counts: np.ndarray, bins: int, levels: int) -> float:
    """Kullback-Leibler divergence of the first `bins`, the rest clipped to the last, from `levels` equal steps."""
    kept = counts[:bins]
    if not kept.any():
        return math.inf
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * levels // bins
    filled = kept > 0
    mean = np.bincount(level, kept, levels) / np.maximum(np.bincount(level, filled, levels), 1)
    quantised = np.where(filled, mean[level], 0)
    seen = clipped > 0
    p = clipped[seen] / clipped.sum()
    q = np.maximum(quantised[seen], 1e-4) / quantised.sum()  # clipping into an empty bin stays finite, as in ORT
    return float(np.sum(p * np.log(p / q)))


def _least_squares(histogram: Histogram, symmetric: bool) -> tuple[float, float]:
    """Range of the least squared error: for each end in turn, the other one fixed."""
    filled = histogram.counts > 0
    values, counts = np.clip(histogram.centres[filled], histogram.low, histogram.high), histogram.counts[filled]

    def error(low: float, high: float) -> float:
        if symmetric:
            step, zero, last = high / 127, 0, 127
        else:
            step = (max(high, 0) - min(low, 0)) / 255  # zero is always in: padding and ReLU need it exact
            zero, last = round(-min(low, 0) / step), 255
        got = (np.clip(np.rint(values / step) + zero, -127 if symmetric else 0, last) - zero) * step
        return float(counts @ np.square(got - values))

    low, high = histogram.low, histogram.high
    if symmetric:
        top = max(-low, high)
        best = min([top, *(top * _SHRINK)], key=lambda end: error(-end, end))
        return max(low, -best), min(high, best)
    for _ in range(2):
        if high > 0:
            high = min([high, *(histogram.high * _SHRINK)], key=lambda end: error(low, end))
        if low < 0:
            low = min([low, *(histogram.low * _SHRINK)], key=lambda end: error(end, high))
    return low, high
