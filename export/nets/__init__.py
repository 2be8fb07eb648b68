"""One file per net: architecture only, no training, no I/O."""
