"""Triton: what it is told, what it is asked, and how one version takes the place of another."""
