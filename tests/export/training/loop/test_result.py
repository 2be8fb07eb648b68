"""What a training run says of itself goes into the manifest, except its history."""

import pytest

from edgeflock.export.training.loop.result import TrainingResult
from edgeflock.runtime.errors import InputError


def test_the_manifest_keeps_everything_but_the_history(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(
        '{"command": "edgeflock train", "synthetic": true, "seeds": {"training": 1}, "history": [{"loss": 1}]}'
    )
    training = TrainingResult.read(path).for_manifest()
    assert training.model_dump() == {"command": "edgeflock train", "synthetic": True, "seeds": {"training": 1}}


@pytest.mark.parametrize(
    ("content", "says"),
    [("[]", "be an object"), ("{", "Invalid JSON"), ('{"synthetic": "perhaps"}', "synthetic: "), (None, "No such")],
)
def test_what_is_no_result_is_refused_with_the_reason(tmp_path, content, says):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=f"expected the result.json of a training run.*{says}"):
        TrainingResult.read(path)
