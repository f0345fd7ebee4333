"""What monitor-model is composed of: the reference of a version, what it has answered lately, and what it leaves."""
