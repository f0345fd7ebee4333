"""Is a version still right on what it gets to see, without labels?"""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.monitoring.judgement import judge_window
from tasks.monitoring.page import TOO_FEW, monitoring_sentence, told_state, too_few_validated
from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import ModelName, MonitoringParams
from tasks.tracked_monitoring import publication, references, windows
from tasks.tracking import registered_models, registry


@flow
@outcome.fail_flow_with_message
def monitor_model(model_name: ModelName, monitoring: MonitoringParams = MonitoringParams()) -> State:
    """Compare what a version has found lately with what it finds in its validation images.

    Traits that drifted, and an estimate of mAP50 that fell, are told by event `model.drifted`. The first monitoring of
    a version predicts its validation images, corrupted in many ways, and keeps with it what it has learnt.
    """
    version = registry.find_version(model_name, monitoring.version or registered_models.CHAMPION)
    title = f"{version.name} version {version.version}"
    with scratch_folder("monitoring") as folder:
        window = windows.read_window(version, monitoring, folder / "window")
        if len(window.found) < monitoring.min_images:
            few = f"{len(window.found)} of {monitoring.min_images} images in {monitoring.days:g} days"
            told = filter(None, [f"{title} has answered too few images: {few}", " ".join(window.remarks)])
            return outcome.completed(". ".join(told), TOO_FEW)
        reference = references.find_reference(version, folder)
        if reference is None:
            sample = references.fetch_sample(version, folder)
            if len(sample.images) < monitoring.min_images:
                few = too_few_validated(len(sample.images), monitoring.min_images)
                return outcome.completed(f"{title}: {few}", TOO_FEW)
            reference = references.make_reference(version, sample, monitoring.device, monitoring.seed, folder)
        if monitoring.embeddings:
            window = windows.embed(window, version, monitoring.device, folder / "embeddings")
        judgement = judge_window(reference, window, version.task, monitoring)
        publication.publish(version, judgement, window)
    return outcome.completed(monitoring_sentence(title, judgement), told_state(judgement))
