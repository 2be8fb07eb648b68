"""What may stop a robot: guard, obstacles, limits."""
