"""Dances out of trained nets: sampling to music, and a stage to see them on."""
