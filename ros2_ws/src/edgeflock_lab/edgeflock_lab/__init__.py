"""The test bench: drives, bars, monitor."""
