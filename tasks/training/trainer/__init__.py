"""The training process: the one place where Ultralytics trains and evaluates.

It runs as `python -m tasks.training.trainer`, apart from the flow: what it holds of a GPU is free when it is gone,
whatever ended it, and neither a slow upload nor a server that is down slows a training.
"""
