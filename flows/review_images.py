"""Images that a person corrects, with the suggestions of a model, as a dataset of this studio."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.dataset_watch import steps as watch_steps
from tasks.dataset_watch import uploads
from tasks.files import sha256_of
from tasks.importing import publication
from tasks.importing import steps as importing_steps
from tasks.orchestration import current_run, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Inputs, ModelName, NewArchive, ReviewParams, ValidationPolicy
from tasks.review import archive_names, asked_images, report
from tasks.review import publication as review_publication
from tasks.review import steps as review_steps
from tasks.review.rounds import NOTHING_REVIEWED
from tasks.review.session import review_session
from tasks.review.steps import NothingToReviewError
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.validation import steps as validation_steps
from tasks.validation.report.markdown import report_sentence


@flow
@outcome.fail_flow_with_message
def review_images(
    model_name: ModelName, inputs: Inputs, archive: NewArchive, review: ReviewParams = ReviewParams()
) -> State:
    """Have people keep, refuse or correct what a model finds in images, and make an archive of it.

    They draw in Label Studio or CVAT; on the front page, which is used without these, nothing can be drawn. The run is
    suspended while they answer, and goes on when there is an answer about each image. The report counts what was
    accepted, moved, reclassed, added and deleted, beside drawing all by hand. Without an image to keep it ends `Nothing
    reviewed`.
    """
    key = publication.require_free_name(archive)
    archive_names.reserve_name(key)
    with review_session(model_name, review) as session, scratch_folder("review") as folder:
        try:
            asked = session.open_round(inputs, folder)
        except NothingToReviewError as nothing:
            return outcome.completed(str(nothing), NOTHING_REVIEWED)
        session.ask_people(asked, folder)
        with review_steps.closed_round(session.run):
            answers = review_steps.read_answers(session.run, asked)
            asked_images.keep_asked_images(key, asked, answers)
            review_steps.list_set_aside(session.run, asked, answers)
            documents, made = review_steps.answer_documents(asked, answers), folder / "reviewed.zip"
            if answers.keep_nothing:
                review_publication.publish_nothing(key, session.run, asked, answers)
                review_steps.keep_answers(session.run, asked, documents)
                session.announce_nothing(asked, answers)
                return outcome.completed(report.nothing_sentence(key, answers), NOTHING_REVIEWED)
            current_run.log_step("making an archive of %d images that came back", len(answers.submitted))
            source = review_steps.pack_answers(session.run, answers, documents, folder)
            origin, given = review_steps.answers_address(session.run, asked), sha256_of(source)
            importing = review_steps.import_params(asked, review)
            summary = importing_steps.convert_archive(source, made, importing, origin, given)
            compared = review_steps.count_changes(session.run, asked, answers, made, summary)
            digest = sha256_of(made)
            checked = validation_steps.check_archive(made, key, digest, ValidationPolicy())
            page = storage_steps.write_text(checked.page, Bucket.RUNS, f"{session.run}/report.html")
            told = report.ReviewReport(
                archive=key,
                run=session.run,
                review=asked,
                answers=answers,
                totals=compared.totals,
                summary=summary,
                check=report_sentence(checked.report),
                check_page=page,
            )
            review_publication.publish_report(told, made, compared.most_changed)
            validation_steps.require_valid(checked.report, page)
            review_steps.record_review(session.run, asked, digest, given, summary)
            publication.publish_archive(made, key)
            review_steps.keep_answers(session.run, asked, documents)
            uploads.announce_upload(key, digest, made)
            session.announce(key, digest, asked, answers, compared.totals)
    watch_steps.start_check(key)
    return outcome.completed(report.review_sentence(key, compared.totals, answers))
