"""Batch inference: images and videos in, detections in their pixels out."""
