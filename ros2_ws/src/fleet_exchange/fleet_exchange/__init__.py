"""Robots learn together: one lifecycle node per robot, and the way of its messages over ROS 2 topics."""
