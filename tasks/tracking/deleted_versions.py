"""Versions that leave the registry."""

from tasks.tracking.mlflow_client import is_final, log_batch, tracking_errors

DELETED_TAG = "deleted_version"


def delete_version(model_name: str, version: int, flow_run_id: str) -> None:
    """Remove a version and its weights; the run that made it stays, and a tag names the flow run that deleted it.

    MLflow keeps deleted weights until `clean-up` removes them, and gives the number of a version to no other.

    Raises:
        TrackingError: MLflow cannot be reached.
    """  # noqa: DOC501 - what is raised inside becomes this error
    from mlflow.exceptions import MlflowException

    with tracking_errors(f"deleting {model_name} version {version}") as mlflow:
        try:
            entry = mlflow.get_model_version(model_name, str(version))
        except MlflowException as error:
            if is_final(error):
                return
            raise
        if entry.run_id:
            tag = f"{DELETED_TAG}.{model_name}.{version}"
            log_batch(mlflow, entry.run_id, tags={tag: flow_run_id})
        if entry.model_id:
            mlflow.delete_logged_model(entry.model_id)
        mlflow.delete_model_version(model_name, str(version))
