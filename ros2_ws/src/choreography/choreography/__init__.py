"""ROS 2 nodes by which robots dance in time with music."""
