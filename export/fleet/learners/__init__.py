"""What a silo or robot learns with: net, optimiser and data, behind the runtime's `Learner`."""
