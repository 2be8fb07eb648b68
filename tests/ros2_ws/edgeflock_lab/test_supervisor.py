"""What processes of a run find around them."""

import os
import tempfile

import pytest

from edgeflock_lab.supervisor import stay_on_this_machine


@pytest.mark.parametrize("environment", [{}, {"HOME": "/nonexistent"}])
def test_logs_of_ros_have_a_place_where_there_is_no_home(environment, monkeypatch):
    monkeypatch.setattr(os, "environ", environment)
    stay_on_this_machine()
    assert environment["ROS_LOG_DIR"] == tempfile.gettempdir()


def test_logs_of_ros_stay_where_the_user_expects_them(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", environment := {"HOME": str(tmp_path)})
    stay_on_this_machine()
    assert "ROS_LOG_DIR" not in environment
