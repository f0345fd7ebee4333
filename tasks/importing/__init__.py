"""Archives in the formats of other tools, read into a YOLO archive."""
