"""`make gpu-proof`: whether training and serving work on the GPU of this machine, and how fast, without network.

The driver (`__main__`) needs the standard library alone. Each part is a process of its own with a deadline.
"""
