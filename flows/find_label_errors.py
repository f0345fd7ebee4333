"""Which labels of an archive look wrong to a model that has not learnt them?"""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.label_error_page import label_error_sentence
from tasks.evaluation.labelled_images import ALL_SPLITS
from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Archive, JudgingVersion, LabelErrorParams, ModelName, ValidationPolicy
from tasks.tracked_evaluation import label_error_publication, out_of_fold, subjects
from tasks.tracked_training import inputs


@flow
@outcome.fail_flow_with_message
def find_label_errors(
    model_name: ModelName,
    archive: Archive,
    version: JudgingVersion | None = None,
    label_errors: LabelErrorParams = LabelErrorParams(),
) -> State:
    """Compare all labels of an archive with what a version (None: the champion) finds in its images.

    Labels that are missing, spurious, of a wrong class or badly placed are ranked, drawn, and packed for review. An
    archive that the version was trained on is judged by models that have not seen the labels. A run that is tried again
    goes on after the last finished epoch.
    """
    (judge,) = subjects.find_subjects(model_name, [version] if version else None)
    with scratch_folder("label-errors") as folder:
        source = inputs.fetch_valid_archive(archive, ValidationPolicy(), folder)
        data = evaluation_steps.unpack_images(source, ALL_SPLITS, folder / "images")
        predicted = out_of_fold.predict_unseen(judge, source, data, label_errors, folder)
        judged = out_of_fold.judge_labels(predicted, label_errors)
        label_error_publication.publish_label_errors(judge, judged, predicted, folder)
    return outcome.completed(label_error_sentence(judged))
