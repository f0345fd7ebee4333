"""Weights that were trained elsewhere, as a version that is deployed like any other."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import MeasuredArchive, ModelName, PromotionPolicy, ValidationPolicy, WeightsName
from tasks.tracked_training import imported_version, session
from tasks.tracking import registry


@flow
@outcome.fail_flow_with_message
def register_model(
    model_name: ModelName,
    weights: WeightsName,
    archive: MeasuredArchive | None = None,
    policy: ValidationPolicy = ValidationPolicy(),
    promotion: PromotionPolicy = PromotionPolicy(),
) -> State:
    """Register weights as a version of a model, without a training; their task, classes and image size are read.

    With an archive, which is validated under `policy`, the version is measured, and becomes `challenger` when it
    reaches what `promotion` asks for.
    """
    imported_version.require_archive_for(archive, policy, promotion)
    session.close_orphaned_runs()
    with scratch_folder("register") as folder:
        imported = imported_version.fetch_weights(weights, folder / "weights")
        registry.require_task(model_name, imported.description.task)
        data = imported_version.merge_archive(archive, imported, policy, promotion, folder)
        with imported_version.tracked_import(model_name, imported, data, folder) as run:
            model = run.measure()
            version = run.register(model_name, model)
            decision = run.compare(version, model, promotion)
            sentence = run.show_report(version, model, decision)
            run.announce(version, model, decision)
    return outcome.completed(sentence)
