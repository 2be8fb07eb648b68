"""The laboratory of fleets: simulation, experiments, comparisons, plots."""
