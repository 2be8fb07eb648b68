"""Ways for bytes between named peers: one protocol (`base`), one file per way, one conformance suite."""
