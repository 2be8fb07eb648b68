"""Frame sources: RealSense (live or recorded), rosbag2, video."""
