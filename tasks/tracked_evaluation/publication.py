"""What an evaluation leaves: its page and its figures, in MLflow at the versions' runs, and their thresholds."""

import json
from collections.abc import Sequence

from tasks.evaluation import page
from tasks.evaluation.labelled_images import EvaluationSet, describe_left_out
from tasks.evaluation.validation_matching import match_validation
from tasks.evaluation.version_evaluation import VersionEvaluation
from tasks.orchestration import artifacts
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.step import retried
from tasks.parameters import EvaluationParams
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracked_evaluation.subjects import Subject
from tasks.tracked_evaluation.validation import keep_validation
from tasks.tracking import evaluation_runs
from tasks.tracking.links import page_links
from tasks.tracking.version_pages import VersionPage, keep_page

PAGE = "evaluation.html"

_UNKEPT = "The thresholds of version {} are not kept with it: they rest on images for training."


def publish(
    subjects: Sequence[Subject],
    data: EvaluationSet,
    evaluations: Sequence[VersionEvaluation],
    evaluation: EvaluationParams,
) -> None:
    """Write the page and all figures to bucket `runs` and to MLflow, and show artifact `evaluation`.

    Raises:
        StudioError: MLflow or the object store cannot be reached.
    """
    for told in page.promise_sentences(data, evaluations[0]):
        log_step("%s", told)
    log_step("drawing the page")
    run = flow_run_id()
    first = subjects[0].version
    unkept = [each for each in subjects if each.may_have_learnt(data)]
    remarks = [
        *(remark for each in subjects for remark in each.remarks(data, "on other images it may do worse")),
        *(_UNKEPT.format(each.version.version) for each in unkept),
        *describe_left_out(data),
    ]
    html = page.evaluation_page(first.name, data, evaluations, remarks, evaluation.worst)
    facts = page.evaluation_facts(first.name, data, evaluations) | {"remarks": remarks}
    text = json.dumps(facts, indent=2)
    version_page = VersionPage(name=PAGE, run=run, archives=data.digests, split=data.split)
    address = retried(storage_steps.write_text)(html, Bucket.RUNS, f"{run}/{PAGE}")
    figures = retried(storage_steps.write_text)(text, Bucket.RUNS, f"{run}/evaluation.json")
    kept = []
    for subject, each in zip(subjects, evaluations, strict=True):
        version = subject.version
        metrics = page.evaluation_metrics(data, each)
        keep_page(version, version_page)
        evaluation_runs.log_evaluation(version.run_id, run, metrics, html, facts)
        if evaluation.keep_thresholds and subject not in unkept:
            source = {"archives": dict(data.digests), "split": data.split, "flow_run_id": run}
            evaluation_runs.keep_thresholds(version, page.threshold_facts(each), source)
            keep_validation(version, match_validation(version.task, version.class_names, data, each.images))
            kept.append(version)
    links = {"Evaluation": address, "All figures as JSON": figures}
    links |= page_links("", first.run_id, first.name, first.version)
    markdown = page.evaluation_markdown(first.name, data, evaluations, remarks, kept=first in kept)
    artifacts.show_markdown("evaluation", f"{links_markdown(links)}\n\n{markdown}")
