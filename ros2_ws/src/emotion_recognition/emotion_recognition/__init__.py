"""ROS 2 node that reads emotions from the faces in a camera image."""
