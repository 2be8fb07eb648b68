"""The registry of verbs, and the verbs of the robot."""
