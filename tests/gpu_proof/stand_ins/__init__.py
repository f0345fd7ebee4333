"""Modules that Ultralytics imports and that are too large to carry; used where the image has none of them."""
