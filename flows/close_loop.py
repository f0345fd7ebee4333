"""From images without labels to a better champion: the model labels, people correct a little, the next one learns."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import outcome
from tasks.parameters import (
    Inputs,
    LabellingParams,
    LoopBaseModel,
    LoopMerge,
    LoopTraining,
    ModelName,
    PipelineArchives,
    PromotionPolicy,
    ReviewParams,
    SelectionParams,
    ServingParams,
    ValidationPolicy,
)
from tasks.pipelines.session import NOBODY_ASKED, pipeline_session


@flow
@outcome.fail_flow_with_message
def close_loop(  # noqa: PLR0913, PLR0917 - all that the flows take which it starts
    model_name: ModelName,
    inputs: Inputs,
    archives: PipelineArchives = ["champion+"],  # noqa: B006 - Prefect shows it as the default, and nobody changes it
    base_model: LoopBaseModel = None,
    labelling: LabellingParams = LabellingParams(),
    selection: SelectionParams = SelectionParams(),
    review: ReviewParams = ReviewParams(),
    policy: ValidationPolicy = ValidationPolicy(),
    training: LoopTraining = None,
    merge: LoopMerge = None,
    promotion: PromotionPolicy = PromotionPolicy(),
    serving: ServingParams = ServingParams(),
) -> State:
    """Label images, have people correct what teaches most of the rest, train on all of it, and serve what is better.

    Each part is a run of its own flow, and the page `pipeline` of this run links them all. While people draw, it is
    suspended. A run that is tried again waits for the same parts; one that is cancelled cancels them. The version that
    labels also chooses what people see, unless `selection` names another.
    """
    selection = selection.with_version(labelling.version)
    with pipeline_session(model_name) as pipeline:
        pipeline.require_versions(selection)
        pipeline.require_training(base_model, [*archives, *pipeline.find_reviewed()], promotion.gold, policy)
        labelled = pipeline.label(inputs, labelling)
        reviewed = pipeline.review([labelled.listed], selection, review) if labelled.listed else NOBODY_ASKED
        new = [made.archive for made in (labelled, reviewed) if made.archive]
        if not new:
            told = f"{labelled.sentence}. {reviewed.sentence}"
            return outcome.completed(f"There is nothing for {model_name} to learn: {told}", "Nothing to learn")
        pipeline.choose_archives([*archives, *pipeline.find_reviewed(), *new], promotion.gold)
        pipeline.check_archives(policy)
        like_champion = pipeline.train_as_champion(base_model, training, merge)
        renewed = pipeline.renew_champion(serving, policy=policy, **like_champion, promotion=promotion)
    told = reviewed.remark_on(renewed.sentence, review.val)
    return outcome.completed(told, None if renewed.is_deployed else "Not better")
