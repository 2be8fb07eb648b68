"""MuJoCo worlds to drive in: an indoor building, an outdoor road and a tape track, made from a seed."""

import os

# MuJoCo chooses its OpenGL at its first import, and the default needs a display: robots and CI have none.
os.environ.setdefault("MUJOCO_GL", "egl")
