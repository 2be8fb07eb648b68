"""Measures to choose a plan by: cycle time, consensus, pace."""
