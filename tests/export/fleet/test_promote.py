"""From a round's model to what drives: gate, shadow, swap; and nothing changes where one of them refuses."""

import numpy as np
import pytest
from safetensors.torch import save_file

from edgeflock.export.datasets import SteeringDataset
from edgeflock.export.fleet.promote import promote
from edgeflock.runtime.bundle.driving import DrivingBundle
from edgeflock.runtime.bundle.signing import generate_key
from edgeflock.runtime.errors import GateError
from edgeflock.runtime.tasks.shadow import ShadowLimits


@pytest.fixture(scope="module")
def frames(lanes):
    def data(count, seed):
        drawn, angles = lanes(count, seed)
        return SteeringDataset(drawn, angles, np.zeros(count, np.int32), ["lanes"], [f"{i}.png" for i in range(count)])

    return data(40, 21), data(40, 22)


def test_a_good_model_drives_and_one_that_gate_or_shadow_refuse_does_not(trained, frames, tmp_path):
    validation, calibration = frames
    generate_key(tmp_path / "r1.pem")
    driving = DrivingBundle(tmp_path / "driving")

    def take(name, net, worse=0.05):
        save_file(net.state_dict(), tmp_path / name)
        limits = ShadowLimits.model_construct(
            worse=worse, slower=100
        )  # time is not the point, and the machine may be busy
        return promote(tmp_path / name, validation, calibration, tmp_path / "r1.pem", driving, limits=limits)

    first = take("first.safetensors", trained)
    assert first.shadow is None and driving.current.resolve() == first.bundle

    with pytest.raises(GateError, match=r"shadow run refuses .* The one before drives on"):
        take("same.safetensors", trained, worse=-0.1)  # as good as before, where a tenth better is asked for
    with pytest.raises(GateError, match="constant predictor"):
        take("blank.safetensors", type(trained)().eval())
    assert driving.current.resolve() == first.bundle
    assert [path.name for path in (tmp_path / "driving" / "bundles").iterdir()] == [first.bundle.name]

    again = take("again.safetensors", trained)
    assert again.shadow.apart == 0 and again.shadow.frames == 40
