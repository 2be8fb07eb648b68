"""What verbs share."""

import doctest

from edgeflock.runtime import options


def test_the_next_command_can_be_pasted():
    assert doctest.testmod(options) == (0, 1)
