"""What train-model is composed of: its inputs, a training that MLflow records, the comparison with the champion."""
