"""Every net through NVIDIA's own parser and builder, which TensorRT-RTX brings and which need no GPU."""

import pytest

from edgeflock.export.nets import NETS, REGISTRATION_NETS
from edgeflock.runtime.errors import EngineError

trt = pytest.importorskip("tensorrt_rtx", reason='TensorRT-RTX is not installed: pip install "edgeflock[trt-rtx]"')


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8-trt"])
@pytest.mark.parametrize("net", NETS)
def test_parser_and_builder_take_the_net(net, form, nets, checked):
    from edgeflock.export.targets.jetson import precheck

    path = nets.path(net, form)
    if not path.is_file():
        pytest.skip(nets.failed.get(net, {}).get(form, "left out, for the reason that nets.py has"))
    said = precheck(path)
    checked(f"TensorRT-RTX {trt.__version__}", net, form, said.split(" TensorRT-RTX")[0] + " TensorRT-RTX")


@pytest.mark.parametrize("net", [net for net in NETS if net not in REGISTRATION_NETS])
def test_parser_refuses_the_form_for_cpus(net, nets, checked):
    from edgeflock.export.targets.jetson import precheck

    if not nets.path(net, "int8").is_file():
        pytest.skip(nets.failed.get(net, {}).get("int8", "not made"))
    with pytest.raises(EngineError, match=r"Int32|zero point"):
        precheck(nets.path(net, "int8"))
    checked(
        f"TensorRT-RTX {trt.__version__}", net, "int8", "only parsed", "refused as expected: int32 bias, zero point"
    )
