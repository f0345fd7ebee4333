"""What a run would do that a person should know before it starts, by flow: sentences for the dialog."""

from collections.abc import Callable, Mapping
from typing import Any

from infra.front_page import dataset_consequences, model_consequences, prediction_consequences

Parameters = Mapping[str, Any]
CONSEQUENCES: Mapping[str, Callable[[Parameters], tuple[str, ...]]] = {
    "run-inference": model_consequences.of_inference,
    "deploy-model": model_consequences.of_deployment,
    "rollback-model": model_consequences.of_rollback,
    "undeploy-model": model_consequences.of_undeployment,
    "delete-version": model_consequences.of_version_deletion,
    "delete-dataset": dataset_consequences.of_deletion,
    "delete-predictions": prediction_consequences.of_deletion,
}
