"""Reference vectors of a bundle: their keys, and how much of a large answer is kept."""

from __future__ import annotations

from edgeflock.runtime.bundle.manifest import OutputSpec


def thinned(spec: OutputSpec) -> tuple[slice, ...]:
    """Index into an answer (N, ...) that keeps what the reference vectors keep."""
    return (slice(None),) * len(spec.shape[:2]) + (slice(None, None, spec.vector_stride),) * len(spec.shape[2:])


def answer_key(output: str, precision: str) -> str:
    """Key of what a precision answers to the reference inputs; the inputs themselves go by their names."""
    return f"{output}_{precision}"
