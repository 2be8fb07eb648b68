"""Nets from elsewhere: an ONNX file or a torch module becomes a graph of 0..255 pixels that every board loads."""
