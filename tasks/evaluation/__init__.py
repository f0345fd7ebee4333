"""What a version is worth on labelled images: its metrics, its errors, its calibration, and thresholds for it."""
