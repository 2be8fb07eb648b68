"""The link behind which the driving bundle changes in one step."""

import re
import shutil

import pytest

from edgeflock.runtime.bundle.bundle import Bundle, sign_bundle
from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.errors import InputError


@pytest.fixture
def driving(tmp_path):
    return DrivingBundle(tmp_path / "driving")


@pytest.fixture
def install(driving, bundle, key):
    """Install a copy of a good bundle; `name` makes it another one."""

    def install(name=None):
        draft = shutil.copytree(bundle, driving.draft())
        if name is not None:
            manifest = draft / "manifest.json"
            named = re.sub(r'"name": ?"[^"]*"', f'"name":"{name}"', manifest.read_text(), count=1)
            manifest.write_text(named)
            sign_bundle(draft, key)
        return driving.install(draft)

    return install


def test_what_was_installed_is_current_and_opens(driving, install, key):
    home = install()
    assert driving.current.resolve() == home
    assert Bundle.open(driving.current, [key.with_suffix(".pub")]).digest.startswith(home.name)


def test_another_one_follows_and_the_way_back_is_kept(driving, install):
    first, second = install(), install("other")
    assert first != second
    assert driving.current.resolve() == second
    assert driving.roll_back() == first == driving.current.resolve()
    assert driving.roll_back() == second  # and forth again


def test_the_same_again_keeps_the_way_back(driving, install):
    first = install()
    install("other")
    install("other")
    assert driving.roll_back() == first


def test_without_one_before_there_is_no_way_back(driving, install):
    install()
    with pytest.raises(InputError, match="nothing to go back to"):
        driving.roll_back()


def test_current_is_there_at_every_moment_of_a_change(driving, install, monkeypatch):
    from pathlib import Path

    first, seen = install(), []
    replace = Path.replace

    def watched(self, target):
        seen.append(driving.current.resolve())
        result = replace(self, target)
        seen.append(driving.current.resolve())
        return result

    monkeypatch.setattr(Path, "replace", watched)
    second = install("other")
    assert set(seen) == {first, second} and all(path.is_dir() for path in seen)
