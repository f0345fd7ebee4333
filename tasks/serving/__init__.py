"""Triton: its configuration, its control, its clients, and the parity gate."""
