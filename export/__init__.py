"""The workstation side: nets, training, data sets, ONNX, quantisation. Needs `pip install "edgeflock[export]"`."""
