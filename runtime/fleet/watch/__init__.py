"""A page on a fleet: what its robots' folders tell, live or replayed by rounds."""
