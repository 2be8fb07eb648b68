"""What docs/api.md calls public says so itself."""

import re
from importlib import import_module
from pathlib import Path

import pytest

MODULES = re.findall(r"^::: ([\w.]+)$", (Path(__file__).parents[1] / "docs" / "api.md").read_text(), re.M)


@pytest.mark.parametrize("name", MODULES)
def test_the_face_of_a_public_package_lists_what_it_offers(name):
    pytest.importorskip("torch")
    module = import_module(name)
    if hasattr(module, "__path__"):
        assert module.__all__ and all(hasattr(module, public) for public in module.__all__)
