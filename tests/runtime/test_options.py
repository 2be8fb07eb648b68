"""What verbs share."""

import doctest
import inspect
from typing import get_args

import pytest
import typer

from edgeflock.runtime import options
from edgeflock.runtime.cli import app
from edgeflock.runtime.model_options import Fields


def test_the_next_command_can_be_pasted():
    assert doctest.testmod(options) == (0, 1)


def commands(group, *words):
    """Every verb that is installed here, with the words that it is called by."""
    for name in group.list_commands(typer.Context(group)):
        command = group.get_command(typer.Context(group), name)
        if hasattr(command, "list_commands"):
            yield from commands(command, *words, name)
        else:
            yield " ".join([*words, name]), command


VERBS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", [verb for verb, c in VERBS.items() if "bundle" in {p.name for p in c.params}])
def test_every_verb_that_opens_a_bundle_can_be_told_whom_to_trust(verb):
    """The refusal of a stranger's bundle advises `--key`."""
    assert "--key" in {word for parameter in VERBS[verb].params for word in parameter.opts}


def test_the_verbs_that_open_bundles_are_all_there():
    pytest.importorskip("torch")
    named = {verb for verb, c in VERBS.items() if "bundle" in {p.name for p in c.params}}
    assert {"register", "emotion", "tune", "bench run", "bench emotion", "calibrate compare"} <= named


def made_by_models():
    """Option and field of every option that a model makes."""
    for verb, command in VERBS.items():
        options = {option.name: option for option in command.params}
        for parameter in inspect.signature(inspect.unwrap(command.callback), eval_str=True).parameters.values():
            kind, *marks = get_args(parameter.annotation) or [None]
            for fields in (mark for mark in marks if isinstance(mark, Fields)):
                model = fields.of or kind
                for name in fields.names or model.model_fields:
                    yield pytest.param(options[name], model.model_fields[name], id=f"{verb} {name}")


@pytest.mark.parametrize(("option", "field"), list(made_by_models()))
def test_no_verb_says_otherwise_than_its_model(option, field):
    assert option.help and option.help == field.description, "say in the model what the option is for"
    assert field.is_required() or option.default == field.default
