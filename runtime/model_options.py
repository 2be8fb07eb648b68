"""Options of verbs that pydantic models make: name, type, default, bounds and help stand in the model alone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.options import typed_flags

__all__ = ["Fields", "model_options", "validated"]

Model = TypeVar("Model", bound=BaseModel)


class Fields:
    """Marks a parameter of a verb whose options are fields of a model.

    Parameters
    ----------
    *names : str
        Fields that become options, in this order; all of the model where none is named.
    of : type, optional
        Model of a parameter that is a dict of what was typed: for a verb that adds values before the model is made, or
        where a subclass of it is. By default the parameter's annotation is the model, and the verb gets one.
    """

    def __init__(self, *names: str, of: type[BaseModel] | None = None) -> None:
        self.names, self.of = names, of


def model_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Turn every parameter that `Fields` marks into options: a description is the help, `ge` and `le` are the bounds.

    What a command line cannot bound (`gt`, `lt`, validators), the model refuses as an `InputError` that names the
    option. A model is made of what was typed alone, so that its validators tell a choice from a default.

    Examples
    --------
    >>> class Limits(BaseModel):
    ...     worse: float = Field(0.05, ge=0, description="Share by which the error may rise.")
    >>> @model_options
    ... def judge(net: Path, limits: Annotated[Limits, Fields()]) -> None: ...
    >>> list(inspect.signature(judge).parameters)
    ['context', 'net', 'worse']
    """
    signature = inspect.signature(verb, eval_str=True)
    parameters = {"context": inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)}
    models: dict[str, tuple[type[BaseModel], list[str], bool]] = {}
    for name, parameter in signature.parameters.items():
        kind, *marks = get_args(parameter.annotation) or (Any,)
        fields = next((mark for mark in marks if isinstance(mark, Fields)), None)
        made = {name: parameter.replace(kind=parameter.KEYWORD_ONLY)}
        if fields is not None:
            model: type[BaseModel] = fields.of or kind
            made = {field: _option(model, field, fields.of is not None) for field in fields.names or model.model_fields}
            models[name] = model, list(made), fields.of is None
        if twice := made.keys() & parameters.keys() - {"context"}:
            raise TypeError(f"{verb.__name__} has two options of one name: {', '.join(twice)}")
        parameters |= made

    @functools.wraps(verb)
    def run(context: typer.Context, **values: Any) -> None:
        typed = typed_flags(context)
        for name, (model, fields, whole) in models.items():
            held = {field: values.pop(field) for field in fields}
            given = {field: value for field, value in held.items() if field in typed}
            values[name] = validated(model, given, typed) if whole else given
        if "context" in signature.parameters:
            values["context"] = context
        verb(**values)

    run.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run


def validated(model: type[Model], values: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> Model:
    """Make a model.

    Parameters
    ----------
    model : type
    values : mapping
    flags : mapping, optional
        What a user knows the fields by; their names by default.

    Raises
    ------
    InputError
        Values that the model refuses, each with what was expected and what was given.
    """
    try:
        return model(**values)
    except ValidationError as error:
        wrong = []
        for one in error.errors():
            name = ".".join(map(str, one["loc"]))
            said = one["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
            wrong.append(f"{(flags or {}).get(name, name)}: {said}, got {one['input']}" if name else said)
        raise InputError(f"{'; '.join(wrong)}.") from None


def _option(model: type[BaseModel], name: str, optional: bool) -> inspect.Parameter:
    """The option of a field, as typer reads it from a signature; `optional` although the model requires it."""
    field = model.model_fields[name]
    kind: Any = field.annotation
    default = inspect.Parameter.empty if field.is_required() else field.default
    if optional and field.is_required():
        kind, default = kind | None, None
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        kind = list[get_args(kind)[0]]  # type: ignore[misc]  # a type that is made
    bounds = {
        end: getattr(bound, way)
        for bound in field.metadata
        for end, way in (("min", "ge"), ("max", "le"))
        if hasattr(bound, way)
    }
    shown = typer.Option(help=field.description, **bounds)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown])
