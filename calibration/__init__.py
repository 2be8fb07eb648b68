"""From real frames to numbers: frame selection and activation ranges for INT8."""
