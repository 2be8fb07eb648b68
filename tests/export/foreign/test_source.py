"""A net of torch comes in by its factory or as a program of torch.export."""

import pickle
import zipfile

import pytest

torch = pytest.importorskip("torch")

from edgeflock.export.foreign.graph import outputs_of, shapes_of  # noqa: E402
from edgeflock.export.foreign.source import open_source  # noqa: E402
from edgeflock.runtime.errors import DataError, InputError  # noqa: E402

pytestmark = pytest.mark.usefixtures("in_workshop")


def test_a_factory_with_weights_is_the_net_that_they_were_trained_in(in_workshop):
    from somebodys_net import build

    net = build()
    with torch.no_grad():
        net.head.bias += 5
    torch.save({"module." + name: value for name, value in net.state_dict().items()}, "trained.pth")
    source = open_source("somebodys_net:build", in_workshop / "trained.pth", {"": (1, 3, 16, 16)}, {})
    image = torch.rand(1, 3, 16, 16)
    got = source.answer({"image": image.numpy()})["output"]
    torch.testing.assert_close(torch.from_numpy(got).float(), net(image).detach(), atol=1e-5, rtol=0)
    torch.save({"head.bias": torch.zeros(3)}, "other.pth")
    with pytest.raises(DataError, match="does not fit somebodys_net:build"):
        open_source("somebodys_net:build", in_workshop / "other.pth", {"": (1, 3, 16, 16)}, {})


def test_a_program_says_its_own_shapes(in_workshop):
    from somebodys_net import build

    torch.export.save(torch.export.export(build().eval(), (torch.rand(1, 3, 16, 20),)), "signs.pt2")
    source = open_source("signs.pt2", None, {}, {})
    assert shapes_of(source.model) == {"image": ((1, 3, 16, 20), "float32")}
    assert outputs_of(source.model) == {"output": ((1, 4), "float32")}
    with pytest.raises(InputError, match="leave --weights out"):
        open_source("signs.pt2", in_workshop / "trained.pth", {}, {})


def test_a_program_that_torch_would_unpickle_is_refused(in_workshop):
    from somebodys_net import build

    torch.export.save(torch.export.export(build().eval(), (torch.rand(1, 3, 16, 16),)), "good.pt2")

    class Harm:
        def __reduce__(self):
            return (open, ("harmed", "w"))

    with zipfile.ZipFile("good.pt2") as good, zipfile.ZipFile("bad.pt2", "w") as bad:
        for name in good.namelist():
            inside = "/sample_inputs/" in name
            bad.writestr(name.replace("good/", "bad/"), pickle.dumps(Harm()) if inside else good.read(name))
    with pytest.raises(DataError, match="would unpickle"):
        open_source("bad.pt2", None, {}, {})
    assert not (in_workshop / "harmed").exists()
