"""Backups of the whole stack in a folder: taken while it works, checked, and restored into an empty one."""
