"""The workstation side: nets, training, data sets, ONNX, quantisation. Needs torch (`pip install "edgeflock[export]"`)."""
