"""ROS parameters from one pydantic model: defaults, descriptions, ranges and the reasons of a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from edgeflock.runtime.errors import InputError
from edgeflock_ros.kept import Kept
from edgeflock_ros.spelling import check_names

Model = TypeVar("Model", bound=BaseModel)


class Parameters(Generic[Model]):
    """The parameters of a node, always valid as a whole.

    Parameters
    ----------
    node : rclpy.node.Node
        Declares one parameter per field of `model`.
    model : type of BaseModel
        Fields with `description`, `ge`, `le`; Literal fields are choices.
    accept : callable, optional
        ``accept(new) -> reason or None`` may refuse a valid change (a reason), e.g. while the node is active.
        It is called before the change holds.

    Attributes
    ----------
    value : BaseModel
        What holds now.
    declared : BaseModel
        What the command line and the parameter file say.

    Raises
    ------
    InputError
        A name or value from the command line or parameter file is refused; the message says why.
    """

    def __init__(self, node: Node, model: type[Model], accept: Callable[[Model], str | None] | None = None) -> None:
        self._model = model
        self._accept = accept
        self._kept = Kept(node)
        try:
            fields: Any = [(name, field.default, descriptor(field)) for name, field in model.model_fields.items()]
            given = {p.name: p.value for p in node.declare_parameters("", fields)}
            check_names(node, model)
            self.declared: Model = model(**given)
            self.value = self._restored(node)
        except ValidationError as error:
            raise InputError(f"{node.get_name()}: {reasons(error)}") from error
        except ParameterException as error:
            raise InputError(f"{node.get_name()}: {error}") from error
        node.add_on_set_parameters_callback(self._set)

    def _set(self, changed: list) -> SetParametersResult:
        own = {p.name: p.value for p in changed if p.name in self._model.model_fields}
        if not own:
            return SetParametersResult(successful=True)
        try:
            new = self._model(**{**self.value.model_dump(), **own})
        except ValidationError as error:
            return SetParametersResult(successful=False, reason=reasons(error))
        refused = self._accept(new) if self._accept else None
        if refused:
            return SetParametersResult(successful=False, reason=refused)
        self.value = new
        self.keep(**own)
        return SetParametersResult(successful=True)

    def keep(self, **values: Any) -> None:
        """Let a process that takes this one's place after a failure begin with these values."""
        declared = self.declared.model_dump()
        kept = {**self._kept.values, **values}
        self._kept.replace({name: value for name, value in kept.items() if value != declared[name]})

    def _restored(self, node: Node) -> Model:
        kept = self._kept.values
        if not kept:
            return self.declared
        node.set_parameters([Parameter(name, value=value) for name, value in kept.items()])
        said = ", ".join(f"{name}={value}" for name, value in kept.items())
        node.get_logger().warning(f"started again, with what was set on the node that ended: {said}")
        return self._model(**{**self.declared.model_dump(), **kept})


def reasons(error: ValidationError) -> str:
    """What pydantic has against the values, in one line: name, complaint, what came."""
    lines = []
    for e in error.errors():
        name = ".".join(str(part) for part in e["loc"]) or "parameters"
        lines.append(f"{name}: {e['msg'][0].lower()}{e['msg'][1:]}, got {e['input']!r}")
    return "; ".join(lines)


def descriptor(field: Any) -> ParameterDescriptor:
    """Description, range and choices of a pydantic field."""
    # The model checks the types, so that `-p speed:=1` may set a float.
    out = ParameterDescriptor(description=field.description or "", dynamic_typing=True)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        out.additional_constraints = "one of: " + ", ".join(str(c) for c in choices)
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    above = next((m.gt for m in field.metadata if hasattr(m, "gt")), None)
    if above is not None:
        out.additional_constraints = f"more than {above:g}"
        low = math.nextafter(above, math.inf)
    if low is not None and high is not None:
        if field.annotation is float:
            out.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif field.annotation is int:
            out.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return out
