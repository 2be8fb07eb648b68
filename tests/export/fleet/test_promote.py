"""From a round's model to what drives: gate, shadow, swap; and nothing changes where one of them refuses."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.fleet.promote import promote
from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.bundle.signing import generate_key
from edgeflock.runtime.errors import GateError


@pytest.fixture(scope="module")
def frames(lanes):
    def data(count, seed):
        drawn, angles = lanes(count, seed)
        return SteeringDataset(drawn, angles, np.zeros(count, np.int32), ["lanes"], [f"{i}.png" for i in range(count)])

    return data(40, 21), data(40, 22)


def test_a_good_model_drives_and_a_worse_one_does_not(trained, frames, tmp_path):
    validation, calibration = frames
    generate_key(tmp_path / "r1.pem")
    driving = DrivingBundle(tmp_path / "driving")

    def take(name, net):
        save_file(net.state_dict(), tmp_path / name)
        return promote(tmp_path / name, validation, calibration, tmp_path / "r1.pem", driving)

    first = take("first.safetensors", trained)
    assert first.shadow is None and driving.current.resolve() == first.bundle

    worse = type(trained)().eval()
    worse.load_state_dict(trained.state_dict())
    with torch.no_grad():
        biases = [value for name, value in worse.named_parameters() if name.endswith("bias")]
        biases[-1].add_(0.08)
    with pytest.raises(GateError, match=r"shadow run refuses .* The one before drives on"):
        take("worse.safetensors", worse)
    with pytest.raises(GateError, match="constant predictor"):
        take("blank.safetensors", type(trained)().eval())
    assert driving.current.resolve() == first.bundle
    assert [path.name for path in (tmp_path / "driving" / "bundles").iterdir()] == [first.bundle.name]

    again = take("again.safetensors", trained)
    assert again.shadow.apart == 0 and again.shadow.frames == 40
