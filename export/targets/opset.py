"""Older operator sets, for engines that stopped before 17.

onnx's own version converter has no step from 14 to 13 for Relu, Add, Div, Reshape or BatchNormalization, and so takes
three of our nets only (tests/export/targets/test_opset.py). What changed for these operators between 13 and 17 is the
list of types and attributes for training: in float inference they are the same operators.
"""

from __future__ import annotations

import onnx

from edgeflock.export.targets.base import opset_of
from edgeflock.runtime.errors import InputError

# Operators that are the same from 13 to 17 in float inference, and the attribute that must be 0 and goes.
_SAME: dict[str, str | None] = dict.fromkeys(
    ("Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "PRelu", "Identity", "Where")
)
_SAME |= {"BatchNormalization": "training_mode", "Reshape": "allowzero"}
OLDEST = 13


def to_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Same graph in an older operator set, 13 to 17; nothing is rewritten.

    Parameters
    ----------
    model : onnx.ModelProto
        Operator set <= 17, see `edgeflock.export.onnx`. Left as it is.
    opset : int

    Raises
    ------
    InputError
        An operator does not exist in the older set or meant something else there.
    """
    current = opset_of(model)
    if not OLDEST <= opset <= current <= 17:
        raise InputError(
            f"operator sets can be lowered from at most 17 to at least {OLDEST}, got {current} to {opset}."
        )
    older = onnx.ModelProto()
    older.CopyFrom(model)
    for node in older.graph.node:
        since = onnx.defs.get_schema(node.op_type, current, "").since_version
        if since <= opset:
            continue
        training = _SAME.get(node.op_type, "")
        if training == "" or any(a.name == training and a.i for a in node.attribute):
            raise InputError(
                f"'{node.name}' is a {node.op_type} of operator set {since}, which set {opset} does not have: a board "
                f"that stops at {opset} cannot run this net. Use another board or another route."
            )
        kept = [a for a in node.attribute if a.name != training]
        del node.attribute[:]
        node.attribute.extend(kept)
    next(o for o in older.opset_import if o.domain in ("", "ai.onnx")).version = opset
    older.ir_version = min(older.ir_version, onnx.helper.find_min_ir_version_for(older.opset_import))
    onnx.checker.check_model(older, full_check=True)
    return older
