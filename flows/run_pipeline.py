"""From archives to a served champion, and to detections with it."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import outcome
from tasks.parameters import (
    BaseModelName,
    InferenceParams,
    MergePolicy,
    ModelName,
    PipelineArchives,
    PipelineInputs,
    PromotionPolicy,
    ServingParams,
    TrainingParams,
    ValidationPolicy,
)
from tasks.pipelines.session import pipeline_session


@flow
@outcome.fail_flow_with_message
def run_pipeline(  # noqa: PLR0913, PLR0917 - all that the flows take which it starts
    model_name: ModelName,
    archives: PipelineArchives,
    inputs: PipelineInputs = [],  # noqa: B006 - Prefect shows it as the default, and nobody changes it
    base_model: BaseModelName = "yolo11n.pt",
    policy: ValidationPolicy = ValidationPolicy(),
    training: TrainingParams = TrainingParams(),
    merge: MergePolicy = MergePolicy(),
    promotion: PromotionPolicy = PromotionPolicy(),
    serving: ServingParams = ServingParams(),
    inference: InferenceParams = InferenceParams(),
) -> State:
    """Validate the archives, train on them, serve the new version if it is better, and detect with it on `inputs`.

    Each part is a run of its own flow. The page `pipeline` of this run links them all. A run that is tried again waits
    for the same parts; one that is cancelled cancels them.
    """
    with pipeline_session(model_name) as pipeline:
        pipeline.choose_archives(archives)
        pipeline.check_archives(policy)
        renewed = pipeline.renew_champion(
            serving, policy=policy, base_model=base_model, training=training, merge=merge, promotion=promotion
        )
        if not renewed.is_deployed:
            return outcome.completed(renewed.sentence, "Not better")
        sentence = renewed.sentence
        if inputs:
            sentence = f"{sentence}. {pipeline.infer(inputs, inference).message}"
    return outcome.completed(sentence)
