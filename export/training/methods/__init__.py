"""One file per method of training."""
