"""Messages of car-like bases; None where ackermann_msgs is not installed, which is not among the common interfaces."""

try:
    from ackermann_msgs.msg import AckermannDrive, AckermannDriveStamped
except ImportError:
    AckermannDrive = AckermannDriveStamped = None
