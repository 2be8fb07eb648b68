"""A missing package is named with the line that installs it, from one table."""

import re
import sys
from importlib.metadata import metadata, packages_distributions, requires

import pytest

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.extras import EXTRAS, needs


def test_what_is_installed_is_imported():
    with needs("a test"):
        import json
    assert json.loads("1") == 1


def test_a_missing_module_names_the_extra_of_the_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(MissingExtra, match=r'^A tour needs packages .*networkx.* pip install "edgeflock\[fleet\]"$'):  # noqa: SIM117
        with needs("A tour"):
            import networkx  # noqa: F401


def test_an_extra_that_is_named_goes_before_the_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"edgeflock\[drive\]"), needs("A drive", "drive"):
        import torch  # noqa: F401


def test_a_package_of_no_extra_is_named_itself():
    with pytest.raises(MissingExtra, match="a_package_that_nobody_has"), needs("A test"):
        import a_package_that_nobody_has  # noqa: F401


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), needs("A test"):
        print(1 / 0)


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_of_the_table_brings_the_module(module):
    assert EXTRAS[module] in metadata("edgeflock").get_all("Provides-Extra")
    owners = packages_distributions().get(module)
    if owners is None:
        pytest.skip(f"{module} is not installed here")
    lines = [line for line in requires("edgeflock") if f'extra == "{EXTRAS[module]}"' in line]
    brought = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    assert brought & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
