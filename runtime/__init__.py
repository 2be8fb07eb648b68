"""The robot side: bundles, engines, tasks, cameras, benchmarks. numpy and ONNX Runtime, never torch."""
