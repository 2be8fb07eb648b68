"""MuJoCo worlds to drive in: an indoor building and an outdoor road, made from a seed."""
