"""Robots that learn together: which one talks to which, when, and what that costs."""
