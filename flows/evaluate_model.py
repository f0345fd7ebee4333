"""What is a version worth, where does it fail, and from which confidence on does it count?"""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.evaluation.page import evaluation_sentence
from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Archive, EvaluatedVersions, EvaluationParams, ModelName, Split
from tasks.tracked_evaluation import publication, subjects


@flow
@outcome.fail_flow_with_message
def evaluate_model(
    model_name: ModelName,
    archive: Archive,
    split: Split = "val",
    versions: EvaluatedVersions | None = None,
    evaluation: EvaluationParams = EvaluationParams(),
) -> State:
    """Measure versions of a model (the champion, unless some are named) on the labelled images of an archive.

    The first version is judged: its metrics, its errors with their images, its slices and its thresholds; the others
    stand beside it. A run that is tried again goes on after the images that were predicted.
    """
    found = subjects.find_subjects(model_name, versions)
    with scratch_folder("evaluate") as folder:
        data = subjects.fetch_images([archive, *evaluation.also], split, evaluation.classes, folder)
        subjects.require_measurable(found, data, evaluation)
        evaluations = subjects.evaluate_subjects(found, data, evaluation, folder)
        publication.publish(found, data, evaluations, evaluation)
    return outcome.completed(evaluation_sentence(model_name, data, evaluations))
