"""The training process, `python -m tasks.training.trainer`, in which Ultralytics trains and evaluates.

Its GPU memory is free when it ends, whatever ended it, and neither a slow upload nor a dead server slows a training.
"""
