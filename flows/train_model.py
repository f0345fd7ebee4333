"""Several archives in, one registered model version out."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import (
    Archives,
    BaseModelName,
    MergePolicy,
    ModelName,
    PromotionPolicy,
    TrainingParams,
    ValidationPolicy,
)
from tasks.tracked_training import comparison, inputs, publication, session
from tasks.tracking import registry


@flow
@outcome.fail_flow_with_message
def train_model(  # noqa: PLR0913, PLR0917 - what a training is made of
    model_name: ModelName,
    archives: Archives,
    base_model: BaseModelName = "yolo11n.pt",
    policy: ValidationPolicy = ValidationPolicy(),
    training: TrainingParams = TrainingParams(),
    merge: MergePolicy = MergePolicy(),
    promotion: PromotionPolicy = PromotionPolicy(),
) -> State:
    """Validate the archives under `policy` and merge them, train from `base_model`, and register the result.

    The new version becomes `challenger` when it reaches what `promotion` asks for. A run that was killed goes on after
    its last finished epoch when it is retried.
    """
    session.close_orphaned_runs()
    with scratch_folder("train") as folder, session.warm_processes(folder):
        base = inputs.fetch_base_model(base_model, folder / "base")
        merge = inputs.single_class_policy(merge) if training.chosen_overrides.get("single_cls") else merge
        data = inputs.merge_archives(archives, promotion.gold, policy, merge, folder)
        registry.require_task(model_name, data.dataset.task)
        job = session.TrainingSession(model_name=model_name, base=base, data=data, training=training, folder=folder)
        if training.rehearse and not job.is_resumed:
            job.run_smoke_test()
        with job.tracked_run(merge, promotion) as run:
            model = run.train()
            version = run.register(model)
            decision = comparison.decide_promotion(version, model, data.dataset, training, promotion)
            report = run.log_report(version, model, decision)
        publication.apply_decision(version, decision)
        page = publication.publish_report(report, version, model, data.dataset, decision, training)
        publication.announce_version(version, model, data.digests, decision, page)
    return outcome.completed(f"{model_name} {decision.sentence}")
