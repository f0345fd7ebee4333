"""Steps on MLflow: `runs` of trainings, what is logged `live`, the model `registry`, and the checks of `datasets`."""
