"""Options of verbs that models make."""

import doctest
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typer.testing import CliRunner

from edgeflock.runtime import model_options as module
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.model_options import Fields, model_options, validated


class Limits(BaseModel):
    """As the verbs' models are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worse: float = Field(0.05, ge=0, le=1, description="Share by which the error may rise.")
    rate: float = Field(1.0, gt=0, description="Must be positive.")
    mode: Literal["fast", "exact"] = Field("exact", description="How it is judged.")
    mirror: bool = Field(True, description="Also mirrored.")
    folders: tuple[Path, ...] = Field((), description="Where to look; repeat.")
    hidden: int = 3
    careful: bool | None = None

    @model_validator(mode="after")
    def _not_both(self) -> "Limits":
        if self.mode == "fast" and self.worse == 0:
            raise ValueError("--mode fast cannot be exact")
        return self


class Whole(BaseModel):
    """With a field that a subclass, or the verb, brings the default of."""

    net: str = Field(description="Name of the net.")
    lr: float = 1e-3


got: dict[str, Any] = {}


def call(verb, *words):
    """What the verb got for its command line; on a refusal the result of the runner."""
    one = typer.Typer()
    one.command()(verb)
    got.clear()
    result = CliRunner().invoke(one, list(words), env={"COLUMNS": "200"})
    return dict(got) if result.exit_code == 0 and got else result


@model_options
def judge(
    net: str,
    limits: Annotated[Limits, Fields("worse", "rate", "mode", "mirror", "folders")],
    times: Annotated[int, typer.Option(help="The verb's own.")] = 2,
) -> None:
    """Judge a net."""
    got.update(net=net, limits=limits, times=times)


@model_options
def learn(context: typer.Context, settings: Annotated[dict[str, Any], Fields(of=Whole)]) -> None:
    """Learn."""
    got.update(settings=settings, verb=context.info_name)


def test_the_examples_hold():
    assert doctest.testmod(module, extraglobs={"BaseModel": BaseModel, "Field": Field, "Path": Path}).failed == 0


def test_a_verb_gets_the_model_of_the_defaults():
    assert call(judge, "dronet") == {"net": "dronet", "limits": Limits(), "times": 2}


def test_a_verb_gets_the_model_of_what_was_typed():
    typed = ["--worse", "0.2", "--rate=3", "--mode", "fast", "--no-mirror", "--folders", "a", "--folders", "b"]
    limits = Limits(worse=0.2, rate=3, mode="fast", mirror=False, folders=(Path("a"), Path("b")))
    assert call(judge, "dronet", *typed, "--times", "5") == {"net": "dronet", "limits": limits, "times": 5}


def test_only_what_was_typed_counts_as_given():
    """A validator that fills in a preset can tell a default from the same value that was asked for."""
    assert call(judge, "dronet", "--worse", "0.05")["limits"].model_fields_set == {"worse"}


def test_help_has_name_default_bounds_choices_and_description():
    text = " ".join(call(judge, "--help").output.replace("│", " ").split())
    for part in (
        "[0<=x<=1] Share by which the error may rise. [default: 0.05]",
        "Must be positive. [default: 1.0]",
        "fast|exact",
        "How it is judged. [default: exact]",
        "--no-mirror",
        "Also mirrored. [default: mirror]",
        "Where to look; repeat.",
    ):
        assert part in text, text
    assert "--hidden" not in text and "--careful" not in text


@pytest.mark.parametrize("words", [("--worse", "1.5"), ("--worse", "much"), ("--mode", "slow"), ("--hidden", "4")])
def test_the_command_line_refuses_what_it_can(words):
    refused = call(judge, "dronet", *words)
    assert refused.exit_code == 2 and words[0] in refused.output


def test_what_only_the_model_refuses_names_the_option():
    refused = call(judge, "dronet", "--rate", "-1")
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception) == "--rate: expected greater than 0, got -1.0."


def test_a_refusal_of_the_whole_model_is_said_as_it_is():
    refused = call(judge, "dronet", "--mode", "fast", "--worse", "0")
    assert isinstance(refused.exception, InputError) and str(refused.exception) == "--mode fast cannot be exact."


def test_a_dict_gets_what_was_typed_alone():
    assert call(learn) == {"settings": {}, "verb": "learn"}
    assert call(learn, "--net", "dronet") == {"settings": {"net": "dronet"}, "verb": "learn"}


def test_values_that_are_no_options_are_refused_by_their_names():
    with pytest.raises(InputError, match=r"^worse: expected less than or equal to 1, got 7; hidden: expected a valid"):
        validated(Limits, {"worse": 7, "hidden": "x"})


def test_two_options_of_one_name_are_a_mistake_of_the_verb():
    def verb(worse: float, limits: Annotated[Limits, Fields("worse")]) -> None: ...

    with pytest.raises(TypeError, match="two options of one name: worse"):
        model_options(verb)
