"""What evaluate-model is composed of: its versions and images, the evaluation of a version, and what it leaves."""
