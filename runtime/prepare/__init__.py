"""Pixels and voxels to tensors, the same bytes on ARM and x86."""
