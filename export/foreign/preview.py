"""`edgeflock export net --dry-run`: what an export would make of a net, from its graph alone."""

from __future__ import annotations

from collections import Counter

import onnx
from rich.console import Console
from rich.table import Table

from edgeflock.export.graph import ExportedNet
from edgeflock.export.quantise.forms import FORMS, prepare, quantisable
from edgeflock.export.quantise.fp16 import to_fp16
from edgeflock.export.recipe import Recipe
from edgeflock.export.targets import TARGETS
from edgeflock.runtime.errors import EdgeflockError

HURT = ("Softmax", "Sigmoid", "HardSigmoid", "HardSwish", "LayerNormalization", "InstanceNormalization", "Erf", "Exp")
"""Operators whose few steps in 8 bits cost answers most often (docs/quantisation.md)."""


def preview(recipe: Recipe, console: Console) -> None:
    """Print operators, size, what each INT8 form would hold, and what each board would take of the float forms."""
    assert isinstance(recipe.module, ExportedNet)
    model = recipe.module.model
    counted = Counter(node.op_type for node in model.graph.node)
    said = ", ".join(f"{count} {name}" for name, count in counted.most_common())
    size = model.ByteSize() / 1e6
    console.print(f"net {recipe.net}: {size:.1f} MB in fp32, {len(model.graph.node)} operators: {said}", soft_wrap=True)
    for form in FORMS:
        console.print(f"{form}: {_form(model, form, recipe.keep_float)}", soft_wrap=True, highlight=False)
    if hurt := [f"{counted[name]} {name}" for name in HURT if counted[name]]:
        console.print(
            f"INT8 often hurts {', '.join(hurt)}: the search leaves in float what the gate needs.", soft_wrap=True
        )
    models = {"fp32": model, "fp16": to_fp16(model)}
    table = Table("board", "takes", title="without INT8, which calibration and gate decide", title_justify="left")
    for name, target in TARGETS.items():
        tried = {
            f"{route.engine} {precision}": target.problems(route, precision, models[precision])
            for route in target.routes
            for precision in route.precisions
            if precision in models
        }
        taken = next((way for way, problems in tried.items() if not problems), None)
        refused = "; ".join(f"{way} refuses: {', '.join(problems)}" for way, problems in tried.items() if problems)
        table.add_row(name, "; ".join(filter(None, [taken, refused])))
    console.print(table)
    console.print("Dry run: nothing was written.", highlight=False)


def _form(model: onnx.ModelProto, form: str, keep_float: tuple[str, ...]) -> str:
    try:
        prepared = prepare(model, form)
        chosen = set(quantisable(prepared, form, keep_float if FORMS[form].layers else ()))
    except EdgeflockError as error:
        return f"none: {error}"
    layers = FORMS[form].layers or ("Conv", "ConvTranspose", "Gemm", "MatMul")
    held = Counter(node.op_type for node in prepared.graph.node if node.name in chosen and node.op_type in layers)
    if not held:
        return f"none, there is no {', '.join(layers)} that it would quantise"
    left = Counter(node.op_type for node in prepared.graph.node if node.name not in chosen)
    in_float = f"; in float: {', '.join(f'{count} {name}' for name, count in left.most_common())}" if left else ""
    return f"{', '.join(f'{count} {name}' for name, count in held.items())} in 8 bits{in_float}"
