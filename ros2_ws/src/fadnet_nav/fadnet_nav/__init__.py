"""ROS 2 nodes that steer a robot with FADNet: camera, steering, guard."""
