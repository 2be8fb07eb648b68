"""The training loop: run, checkpoints, report."""
