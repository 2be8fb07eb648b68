"""A misspelt parameter is refused by its name: a robot must not drive by a default that nobody chose."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from pydantic import BaseModel, Field

from edgeflock.runtime.errors import InputError
from edgeflock_ros import spelling
from edgeflock_ros.params import Parameters, descriptor


class Limits(BaseModel):
    wheelbase: float = Field(default=0.36, gt=0.0, le=5.0)
    max_steering: float = 0.6
    speed: float = 1.0


@pytest.fixture
def limits(monkeypatch, tmp_path):
    """``limits(text, *arguments)``: parameters of a node `guard` with a parameter file of that text."""

    def make(text="", *arguments):
        file = tmp_path / "robot.yaml"
        file.write_text(text)
        given = ["--ros-args", *arguments, *(["--params-file", str(file)] if text else [])]
        monkeypatch.setattr("sys.argv", ["guard_node", *given])
        node = rclpy.create_node("guard", namespace="robot1", context=context, cli_args=given)
        return Parameters(node, Limits).value

    context = rclpy.Context()
    monkeypatch.setattr(spelling, "_beside", set())
    rclpy.init(args=[], context=context, domain_id=99)
    yield make
    rclpy.shutdown(context=context)


def test_names_of_a_file_that_are_none_are_refused_with_the_ones_that_they_resemble(limits):
    with pytest.raises(InputError) as refused:
        limits("/**/guard:\n  ros__parameters: {speed: 0.5, wheel_base: 0.26, max_steer: 0.3, zzz: 1}\n")
    assert str(refused.value) == (
        "guard: unknown parameter 'max_steer' (is it 'max_steering'?), 'wheel_base' (is it 'wheelbase'?), 'zzz'. "
        "Its parameters are wheelbase, max_steering, speed."
    )


@pytest.mark.parametrize("key", ["/robot1/guard: ", "/**/guard: ", "robot1:\n  guard: "])
def test_however_the_file_names_the_node(limits, key):
    with pytest.raises(InputError, match="is it 'speed'"):
        limits(f"{key}{{ros__parameters: {{sped: 0.5}}}}\n")


@pytest.mark.parametrize("key", ["guard", "/guard", "/robot2/guard"])
def test_a_section_for_another_namespace_is_refused_with_the_name_that_holds_everywhere(limits, key):
    """ROS would ignore it, and the robot would drive by the defaults."""
    with pytest.raises(InputError, match=r"for /robot1/guard in .*robot.yaml, got .* call it /\*\*/guard"):
        limits(f"{key}:\n  ros__parameters: {{speed: 0.5}}\n")
    both = f"{key}:\n  ros__parameters: {{speed: 0.5}}\n/robot1/guard:\n  ros__parameters: {{speed: 0.7}}\n"
    assert limits(both).speed == 0.7


def test_on_the_command_line_too(limits):
    with pytest.raises(InputError, match=r"'sped' \(is it 'speed'"):
        limits("", "-p", "sped:=0.5")


def test_what_a_file_gives_to_every_node_may_be_meant_for_another(limits, capfd):
    shared = "/**:\n  ros__parameters: {speed: 0.5, seed: 3, width: 640, use_sim_time: false, nested: {name: 1}}\n"
    assert limits(shared).speed == 0.5
    assert "ignores 'seed', which is not its 'speed'" in capfd.readouterr().err
    with pytest.raises(InputError, match="unknown parameter 'seed'"):
        limits(shared + "/robot1/guard:\n  ros__parameters: {seed: 4}\n")


def test_what_is_meant_for_a_node_of_the_same_process_is_let_be(limits):
    class Other(BaseModel):
        path: str = ""

    spelling.beside(Limits, Other)
    assert limits("", "-p", "path:=run.mp4", "-p", "speed:=0.5").speed == 0.5
    with pytest.raises(InputError, match="unknown parameter 'paths'"):
        limits("", "-p", "paths:=run.mp4")


def test_parameters_of_ros_itself_are_none_of_ours(limits):
    assert limits("", "-p", "qos_overrides./tf.publisher.depth:=3", "-p", "use_sim_time:=false").speed == 1.0


def test_a_limit_that_is_excluded_is_described_as_such():
    described = descriptor(Limits.model_fields["wheelbase"])
    assert described.additional_constraints == "more than 0"
    assert described.floating_point_range[0].from_value > 0.0
