"""What is there: archives, models and predictions in pages, where each comes from, and how two archives differ."""
