"""The base of all nodes: parameters, messages, lifecycle, process; and the camera node."""
