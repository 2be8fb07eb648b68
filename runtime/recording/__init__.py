"""What a person drove, written down on the robot: frames with the steering angle that belongs to each."""
