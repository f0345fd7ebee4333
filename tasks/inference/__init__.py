"""Batch inference: media in, Triton asked, boxes on the original out."""
