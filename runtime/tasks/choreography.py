"""Choreography: music in, the motion of a group out, chunk by chunk, by GCD without torch.

The bundle holds two graphs: the denoiser, which every step of the diffusion asks, and what hears the music, which is
asked once a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from edgeflock.runtime.audio.features import MusicStream
from edgeflock.runtime.audio.reading import sound_blocks
from edgeflock.runtime.bundle.bundle import Bundle
from edgeflock.runtime.bundle.manifest import InputSpec, Manifest, MotionInput, OutputSpec, Part, VectorInput
from edgeflock.runtime.engines import REFERENCE, open_engine
from edgeflock.runtime.errors import BundleError, InputError, ParityError
from edgeflock.runtime.motion.diffusion import HALF, following, sample
from edgeflock.runtime.motion.group import RATE, Group, group_of_rows, in_a_row, row_size
from edgeflock.runtime.motion.skeleton import BODY
from edgeflock.runtime.tasks.base import FP32_TOLERANCE, NetTask

CHUNK = 2 * HALF
MUSIC = "music.onnx"
"""The graph in the bundle that hears the music: features (1, 150, F) and noise (1, width) in, `HEARD` out."""
HEARD = ("tokens", "summary", "group")
"""Inputs of the denoiser that are the same in every step."""
FEATURES, NOISE = "features", "noise"
STEPS, ORDER = 8, 2
"""As `edgeflock.runtime.motion.diffusion.sample` takes them: what a robot dances with unless told otherwise."""


def choreography_inputs(dancers: int, width: int) -> list[InputSpec]:
    """Inputs of the denoiser of so many dancers."""
    parts = [Part(name="root", size=3), Part(name="rotations", size=6 * len(BODY.parents))]
    parts.append(Part(name="contacts", size=len(BODY.feet)))
    return [
        MotionInput(
            **{"name": "motion", "shape": (1, dancers, CHUNK, row_size())},
            **{"rate_hz": RATE, "parts": parts, "rotation": "rot6d", "up": "y"},
        ),
        VectorInput(name="step", shape=(1,), unit="of 1000, 0 the least noisy"),
        VectorInput(name="tokens", shape=(1, CHUNK, width), unit=f"of {MUSIC}"),
        VectorInput(name="summary", shape=(1, width), unit=f"of {MUSIC}"),
        VectorInput(name="group", shape=(1, width), unit=f"of {MUSIC}"),
    ]


def choreography_output(dancers: int) -> OutputSpec:
    """The motion without its noise, in rows as the input `motion`."""
    shape = (1, dancers, CHUNK, row_size())
    return OutputSpec(name="clean", shape=shape, unit="m, rot6d and contact", tolerance=0.2, vector_stride=5)


class Choreographer(NetTask):
    """Dance by a bundle; parameters, attributes and errors as for `NetTask`.

    Attributes
    ----------
    dancers : int
        Of the largest group that this bundle dances.

    Examples
    --------
    >>> for piece in Choreographer("bundles/gcd").dance("music.ogg"):  # doctest: +SKIP
    ...     piece.root  # (dancers, 75, 3): the next 2.5 s
    """

    task = "choreography"

    def __init__(
        self,
        bundle: Bundle | str | Path,
        precision: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        keys: Iterable[str | Path] | None = None,
    ) -> None:
        super().__init__(bundle, precision, threads, engine, keys)
        self.dancers = self.inputs["motion"].shape[1]
        vectors = self.bundle.vectors()
        if MUSIC not in self.bundle.manifest.files or not {FEATURES, NOISE} <= vectors.keys():
            raise BundleError(f"the bundle {self.bundle.manifest.name} lacks {MUSIC} or its vectors: export it again.")
        self._ear = open_engine(REFERENCE, self.bundle.path / MUSIC, "fp32", threads or 1)
        self._asked = {name: np.zeros((1, *vectors[name].shape[1:]), np.float32) for name in (FEATURES, NOISE)}
        self._heard = self._ear.bind(self._asked)
        for number in range(len(vectors[FEATURES])):
            self._hear(vectors[FEATURES][number], vectors[NOISE][number])
            for name in HEARD:
                expected = vectors[name][number]
                apart = np.abs(self._heard[name][0] - expected) / np.maximum(1, np.abs(expected))
                if not apart.max() <= FP32_TOLERANCE:
                    raise ParityError(
                        f"{REFERENCE} hears reference music {number} of the bundle {self.bundle.manifest.name} as "
                        f"{name} that are off by {apart.max():.1g}, expected at most {FP32_TOLERANCE:.0g}: this board "
                        "computes the net differently. Use another version of ONNX Runtime."
                    )

    def check(self, manifest: Manifest) -> None:
        """The denoiser of some dancers and some width."""
        [dancers], [width] = (
            {spec.shape[1] for spec in manifest.inputs if spec.name == name and len(spec.shape) > 1} or {0}
            for name in ("motion", "group")
        )
        wanted = {spec.name: spec.shape for spec in choreography_inputs(dancers, width)}
        output = choreography_output(dancers)
        got = {spec.name: spec.shape for spec in manifest.inputs}
        if got != wanted or [(o.name, o.shape) for o in manifest.outputs] != [(output.name, output.shape)]:
            raise BundleError(
                f"the bundle {manifest.name} has inputs {got} and outputs {[o.name for o in manifest.outputs]}; "
                f"choreography needs {wanted} in and {output.name} out."
            )

    def dance(self, music: str | Path, **wish: int) -> Iterator[Group]:
        """Dance to a sound file of any length, as `stream`; errors also as for `sound_blocks`."""
        heard = MusicStream()

        def rows() -> Iterator[np.ndarray]:
            yield from map(heard, sound_blocks(music))
            yield heard.rest()

        return self.stream(rows(), **wish)

    def stream(
        self,
        music: Iterable[np.ndarray],
        *,
        dancers: int | None = None,
        steps: int = STEPS,
        order: int = ORDER,
        seed: int = 0,
    ) -> Iterator[Group]:
        """Dance to music as it comes; memory does not grow with it.

        A piece needs the 5 s of music from its beginning on. Its chunk is half over the one before, whose second half
        it leads over into its own.

        Parameters
        ----------
        music : iterable of ndarray
            Blocks of features (n, F) at 30 Hz (`edgeflock.runtime.audio.features`).
        dancers : int, optional
            The first so many of the group; by default all.
        steps, order : int
            See `edgeflock.runtime.motion.diffusion.sample`.
        seed : int
            Of the noise, which alone decides a dance to a piece of music.

        Yields
        ------
        Group
            The next 75 frames, at 30 Hz; the last piece has what is left.

        Raises
        ------
        InputError
            More dancers than the bundle has, or other features.
        EngineError
            The engine failed.
        """
        dancers = self.dancers if dancers is None else dancers
        if not 1 <= dancers <= self.dancers:
            raise InputError(
                f"expected 1 to {self.dancers} dancers of the bundle {self.bundle.manifest.name}, got {dancers}: "
                "`edgeflock export choreography --dancers` makes a bundle of more."
            )
        return self._pieces(music, dancers, steps, order, seed)

    def _pieces(self, music: Iterable[np.ndarray], dancers: int, steps: int, order: int, seed: int) -> Iterator[Group]:
        rng = np.random.default_rng([seed, 34])
        style = rng.normal(size=self._asked[NOISE].shape[1:])
        held = np.zeros((0, self._asked[FEATURES].shape[2]), np.float32)
        noise, group, known = rng.normal(size=(self.dancers, HALF, row_size())), None, None

        def chunk() -> np.ndarray:
            nonlocal noise, group
            self._hear(np.pad(held[:CHUNK], ((0, max(0, CHUNK - len(held))), (0, 0)), mode="edge"), style)
            if group is None:  # it is one group for the whole dance
                group = self._heard["group"].copy()
            for name, value in {**self._heard, "group": group}.items():
                self.inputs[name][...] = value
            later = rng.normal(size=noise.shape)
            start = np.concatenate([noise, later], 1)[None]
            noise = later  # the shared half begins from the same noise, so that dancers keep their places
            return sample(self._denoise, start, steps, order, None if known is None else following(known))[0]

        for block in music:
            if block.ndim != 2 or block.shape[1] != held.shape[1]:
                raise InputError(f"expected music of {held.shape[1]} features a frame, got {list(block.shape)}.")
            held = np.concatenate([held, block])
            while len(held) >= CHUNK:
                rows = chunk()
                yield group_of_rows(rows[:dancers, :HALF])
                held, known = held[HALF:], rows[:, HALF:]
        if len(held) == HALF and known is not None:
            yield group_of_rows(known[:dancers])
        elif len(held):
            yield group_of_rows(chunk()[:dancers, : len(held)])

    def __call__(self, features: np.ndarray, steps: int = STEPS, order: int = ORDER) -> Group:
        """Dance a chunk: 150 frames to their features (150, F); raises as `stream`."""
        return in_a_row(self.stream([features], steps=steps, order=order))

    def example(self) -> tuple[np.ndarray]:
        """The first reference music of the bundle."""
        return (self.bundle.vectors()[FEATURES][0],)

    def _hear(self, features: np.ndarray, noise: np.ndarray) -> None:
        self._asked[FEATURES][0], self._asked[NOISE][0] = features, noise
        self._ear.run()

    def _denoise(self, noisy: np.ndarray, step: int) -> np.ndarray:
        self.inputs["motion"][...], self.inputs["step"][...] = noisy, step
        self.run()
        return self.outputs["clean"].copy()
