"""A net from elsewhere as it was given: its graph, and what it answers itself."""

from __future__ import annotations

import copy
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeflock.export.foreign.graph import shapes_of
from edgeflock.export.foreign.onnx_file import answers_of, read_onnx
from edgeflock.runtime.errors import DataError, InputError, in_our_words

Feeds = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

_FORMS = "an ONNX file (.onnx), a program of torch.export (.pt2), or package.module:factory of a torch module"


@dataclass(frozen=True)
class Source:
    """A net as it was given.

    Attributes
    ----------
    name : str
        As a file may be called.
    model : onnx.ModelProto
        Its graph, the batch 1.
    answer : callable
        What the net itself, not the graph for boards, answers to one feed.
    """

    name: str
    model: onnx.ModelProto
    answer: Callable[[Feeds], dict[str, np.ndarray]]


def open_source(source: str, weights: Path | None, shapes: Shapes | None, given: Shapes) -> Source:
    """Read a net.

    Parameters
    ----------
    source : str
        ONNX file, `.pt2`, or "package.module:factory", which is called without arguments and gives an `nn.Module`.
    weights : Path, optional
        State dict for the factory's net.
    shapes : mapping, optional
        Told shapes by input, where one has a name; the key "" holds for the only input.
    given : mapping
        Shapes of the samples, batch 1, by input; of a torch net that says none.

    Raises
    ------
    DataError, InputError
        What is wrong with it, and what to do.
    """
    shapes = shapes or {}
    suffix = Path(source).suffix.lower()
    if suffix != ".onnx" and ":" in source and not Path(source).exists():
        return _quietly(source, weights, shapes, given)
    if weights is not None:
        raise InputError(f"--weights goes with package.module:factory; {source} has its own: leave --weights out.")
    path = Path(source)
    if suffix == ".pt2":
        return _quietly(source, None, shapes, given)
    if suffix in (".pth", ".pt", ".safetensors", ".ckpt", ".h5", ".keras", ".tflite", ".pb", ".engine"):
        ways = {
            ".h5": "`python -m tf2onnx.convert` makes ONNX of it",
            ".keras": "`python -m tf2onnx.convert` makes ONNX of it",
            ".pb": "`python -m tf2onnx.convert` makes ONNX of it",
            ".tflite": "`python -m tf2onnx.convert --tflite` makes ONNX of it",
            ".engine": "an engine holds for one GPU: give the ONNX file that it was made of",
        }
        way = ways.get(
            suffix, f"weights alone are no net: name what builds it, package.module:factory --weights {source}"
        )
        raise InputError(f"{source}: expected {_FORMS}, got {suffix}: {way}.")
    if not path.exists() and suffix != ".onnx":
        raise InputError(f"{source}: expected {_FORMS}, and there is no such file: check the path.")
    model = read_onnx(path, shapes)
    return Source(file_name(path.stem), model, lambda feeds: answers_of(model, feeds))


def file_name(text: str) -> str:
    """A name that a bundle's files may have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_") or "net"


def _quietly(source: str, weights: Path | None, told: Shapes, given: Shapes) -> Source:
    """A torch net without what torch warns of its own parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return _of_torch(source, weights, told, given)


def _of_torch(source: str, weights: Path | None, told: Shapes, given: Shapes) -> Source:
    import torch

    from edgeflock.export.foreign.flat import Flat
    from edgeflock.export.onnx import export_onnx

    program = source.lower().endswith(".pt2")
    module, known = _program(Path(source)) if program else (_built(source, weights), {})
    names = list(known) or _parameters(module, source)
    shapes = {}
    for name in names:
        shape = told.get(name) or (told.get("") if len(names) == 1 else None) or given.get(name) or known.get(name, ())
        if not shape:
            raise InputError(
                f"{source}: torch does not say what shape '{name}' has: say it with --size WxH for pictures, --shape "
                "1x3x224x224 or, of several inputs, --inputs FILE."
            )
        shapes[name] = tuple(shape)
    net = Flat(module)
    with torch.inference_mode():
        try:
            net(*(torch.zeros(shape) for shape in shapes.values()))
        except Exception as error:  # whatever a foreign forward raises
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise InputError(
                f"{source} does not take float32 {sizes} ({' '.join(str(error).split())[:200]}): say other sizes with "
                "--size, --shape or --inputs."
            ) from None
    try:
        model = export_onnx(net, shapes, net.names)
    except Exception as error:  # torch's exporter has no common error
        if (told_so := in_our_words(error)) is error:
            raise told_so from None
        raise InputError(
            f"{source}: torch's exporter cannot write it as ONNX ({' '.join(str(error).split())[:240]}): replace what "
            "it names in the net's forward, or give an ONNX file."
        ) from None
    if missing := shapes.keys() - shapes_of(model).keys():
        raise InputError(f"{source}: the answer does not depend on {', '.join(sorted(missing))}: drop that input.")
    exact = copy.deepcopy(net).double()

    def answer(feeds: Feeds) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = exact(*(torch.from_numpy(feeds[name].astype(np.float64)) for name in names))
        return {name: value.numpy() for name, value in zip(net.names, found, strict=True)}

    return Source(file_name(source.rpartition(":")[2] if not program else Path(source).stem), model, answer)


def imported(text: str, expected: str) -> Any:
    """What "module:name" names, looked for in the working folder first; InputError where it is not what is expected."""
    place, _, name = text.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(place), name)
    except Exception as error:  # whatever foreign code raises
        raise InputError(
            f"{text}: expected {expected}, got {type(error).__name__}: {' '.join(str(error).split())[:200]}. Run from "
            "the folder that holds the module."
        ) from None
    finally:
        sys.path.remove(str(Path.cwd()))


def _built(source: str, weights: Path | None) -> Any:
    from torch import nn

    from edgeflock.export.training.loop.checkpoint import read_state

    expected = "package.module:factory that builds a torch module without arguments"
    factory = imported(source, expected)
    try:
        net = factory()
    except Exception as error:  # whatever foreign code raises
        raise InputError(
            f"{source}: expected {expected}, got {type(error).__name__}: {' '.join(str(error).split())[:200]}. Write a "
            "function without arguments around it."
        ) from None
    if not isinstance(net, nn.Module):
        raise InputError(f"{source} gives a {type(net).__name__}: expected a torch nn.Module.")
    if weights is not None:
        state = {key.removeprefix("module."): value for key, value in read_state(weights).items()}
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise DataError(f"{weights} does not fit {source}: {' '.join(str(error).split())[:400]}") from None
    return net.eval()


def _program(path: Path) -> tuple[Any, dict[str, tuple[int, ...]]]:
    from edgeflock.export.foreign.program import open_program

    program = open_program(path)
    held = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder"}
    return program.module(), {
        name: tuple(size if isinstance(size, int) else 1 for size in held[name])
        for name in program.graph_signature.user_inputs
    }


def _parameters(module: Any, source: str) -> list[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if not names or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise InputError(
            f"{source}: expected a forward that names its inputs, got {inspect.signature(module.forward)}."
        )
    return names
