"""`edgeflock fleet demo`: three robots learn alone and together, and drive in each other's worlds."""
