"""FRAMES that are no pictures on disk: a bag's camera, sounds, scans."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeflock.export.datasets import ReadOptions, open_dataset
from edgeflock.export.foreign.meaning import Taken
from edgeflock.export.foreign.samples import Frames, only_picture, prepared
from edgeflock.runtime.bundle.manifest import AudioInput, InputSpec
from edgeflock.runtime.cameras.encodings import decode_color
from edgeflock.runtime.cameras.rosbag import Bag, choose_image, is_recording
from edgeflock.runtime.errors import CameraError, DataError, InputError
from edgeflock.runtime.prepare.volume import check_volume, nifti_data, normalise, read_nifti, resample

SOUNDS, SCANS = ("*.wav",), ("*.nii", "*.nii.gz")


def other_frames(path: Path, options: ReadOptions) -> Frames | None:
    """What lies at a path, None where it is none of these."""
    if is_recording(path):
        return _Bag(path, options)
    folder = path if path.is_dir() else path.parent
    for kinds, kind in ((SOUNDS, _Sounds), (SCANS, _Scans)):
        names = [name for pattern in kinds for name in folder.glob(pattern)]
        files = sorted(names) if path.is_dir() else [path] if path in names else []
        if files:
            return kind(path, files)
    return None


class _Bag(Frames):
    """The colour images of a recording; with the angle of each where the recording has steering."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.arrays = path, {}
        try:
            with Bag(path, "edgeflock export net", "export") as bag:
                self._topic = choose_image(bag, options.image_topic, "give --image-topic")
                count = sum(1 for _ in bag.messages(self._topic))
        except CameraError as error:
            raise InputError(str(error)) from None
        self._index, self._angles = np.arange(count), None
        try:
            steered = open_dataset(path, options=options)
        except (InputError, DataError):  # frames without labels are frames
            return
        numbers = [re.search(r"\[(\d+)\]$", name) for name in steered.names]
        self._index, self._angles = np.array([int(found[1]) for found in numbers if found]), steered.angles

    def __len__(self) -> int:
        return len(self._index)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = only_picture(self.path, inputs)
        return {spec.name: prepared(spec, self._pixels(set(self._index[index].tolist())), len(index), "bgr8")}

    def _pixels(self, wanted: set[int]) -> Iterator[np.ndarray]:
        with Bag(self.path, "edgeflock export net", "export") as bag:
            for number, message in enumerate(bag.messages(self._topic)):
                if number in wanted:
                    pixels, encoding = decode_color(message.content)
                    yield pixels[..., ::-1] if encoding == "rgb8" else pixels

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {} if self._angles is None else {"angle": self._angles[index]}

    def names(self, index: np.ndarray) -> list[str]:
        return [f"{self.path.name}:{self._topic}[{i}]" for i in self._index[index]]


class _Files(Frames):
    """Files of which each gives samples of one input."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path, self.arrays, self._files = path, {}, files

    def labels(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def _only(self, inputs: Sequence[Taken], kind: str) -> InputSpec:
        specs = [taken.spec for taken in inputs]
        if [spec.kind for spec in specs] != [kind]:
            raise InputError(
                f"{self.path} holds files of {kind}, the net takes {'; '.join(map(str, inputs))}: say --kind {kind}, "
                "or give an npz with an array for each input."
            )
        return specs[0]


class _Sounds(_Files):
    """Stretches of WAV files, one after the other, as long as the net takes them, -1..1."""

    def fit(self, inputs: Sequence[Taken]) -> None:
        spec = self._only(inputs, "audio")
        assert isinstance(spec, AudioInput)
        size, rate = int(np.prod(spec.shape[1:])), round(spec.rate_hz * spec.shape[-1])
        self._parts = [
            (file, part) for file in self._files for part in np.split(*_cut(_read_wav(file, rate), size))[:-1]
        ]
        if not self._parts:
            raise InputError(f"{self.path}: expected sounds of at least {size} samples, {size / rate:.3g} s.")

    def __len__(self) -> int:
        return len(self._parts)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = inputs[0].spec
        return {spec.name: np.stack([self._parts[i][1] for i in index]).reshape(len(index), *spec.shape[1:])}

    def names(self, index: np.ndarray) -> list[str]:
        return [f"{self._parts[i][0].name}[{i}]" for i in index]


class _Scans(_Files):
    """NIfTI files, resampled to the net's grid, 0..1 between their 0.5 and 99.5 percentiles."""

    def __len__(self) -> int:
        return len(self._files)

    def feeds(self, inputs: Sequence[Taken], index: np.ndarray) -> dict[str, np.ndarray]:
        spec = self._only(inputs, "volume")
        scans = (self._scan(self._files[i], spec.shape[2:]) for i in index)
        return {spec.name: np.stack(list(scans))[:, None]}

    def names(self, index: np.ndarray) -> list[str]:
        return [self._files[i].name for i in index]

    def _scan(self, file: Path, shape: tuple[int, ...]) -> np.ndarray:
        name = str(file)
        return resample(normalise(check_volume(nifti_data(read_nifti(file), name), name), name=name), shape)


def _cut(sound: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A sound and where it is cut into parts of a size; the last one is shorter, or empty."""
    return sound, np.arange(size, len(sound) + 1, size)


def _read_wav(path: Path, rate: int) -> np.ndarray:
    """float32 samples -1..1, the mean of the channels; DataError where the file is none, InputError of another rate."""
    try:
        with wave.open(str(path)) as file:
            found, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise DataError(f"{path}: expected a WAV file of plain samples (PCM), got another one ({error}).") from None
    if found != rate or width not in (1, 2, 4):
        raise InputError(
            f"{path}: expected {rate} samples a second of 8, 16 or 32 bits (--rate), got {found} of {8 * width}: "
            f"`sox {path.name} -r {rate} -b 16 NEW.wav` makes it so."
        )
    samples = np.frombuffer(content, {1: np.uint8, 2: np.int16, 4: np.int32}[width]).reshape(-1, channels)
    zero, full = (128, 128) if width == 1 else (0, 2 ** (8 * width - 1))
    return ((samples.astype(np.float64) - zero) / full).mean(1).astype(np.float32)
