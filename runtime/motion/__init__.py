"""Motion of bodies: rotations, skeletons, groups of dancers, their files and measures; numpy only."""
