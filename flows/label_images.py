"""New images, labelled by a model where it is sure, and listed for a person where it is not."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.importing.publication import require_free_name
from tasks.labelling import plan, predictions, publication, session
from tasks.labelling.labelled_archive import NOTHING_LABELLED
from tasks.labelling.page import LabellingReport
from tasks.labelling.reuse import label_needs
from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Inputs, LabellingParams, ModelName, NewArchive


@flow
@outcome.fail_flow_with_message
def label_images(
    model_name: ModelName, inputs: Inputs, archive: NewArchive, labelling: LabellingParams = LabellingParams()
) -> State:
    """Make an archive for train-model of what a version (the champion, unless one is named) finds in images.

    From validation follows from which confidence a label is taken. An image with anything in doubt is not in the
    archive: `run:<flow run id>` of this run stands for these images. A run that is tried again predicts nothing twice.
    """
    key = require_free_name(archive)
    with scratch_folder("labelling") as folder:
        subject, planned = plan.open_or_plan(model_name, labelling, folder)
        version = subject.version
        needs = label_needs(version.task, planned.thresholds)
        predicted = predictions.predict_inputs(version, inputs, needs, labelling.device, folder)
        labelled = session.write_archive(folder / "labelled.zip", subject, planned, predicted, labelling)
        report = LabellingReport(
            archive=key,
            model_name=model_name,
            class_names=version.class_names,
            plan=planned,
            labelling=labelled,
            compare=labelling.compare,
        )
        publication.publish_report(report, version.run_id, predicted.run)
        publication.publish_labelled(folder / "labelled.zip", key, labelled)
    return outcome.completed(report.sentence, None if labelled.archived else NOTHING_LABELLED)
