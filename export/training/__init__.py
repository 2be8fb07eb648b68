"""One file per training method: the loss, the step, the loop."""
