"""An archive that another tool has written, as a dataset of this studio."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.dataset_watch import steps as watch_steps
from tasks.dataset_watch import uploads
from tasks.files import sha256_of
from tasks.importing import publication
from tasks.importing import steps as importing_steps
from tasks.importing.report import import_markdown, import_sentence
from tasks.orchestration import artifacts, current_run, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import ImportParams, NewArchive, SourceArchive, ValidationPolicy
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.validation import steps as validation_steps
from tasks.validation.report.markdown import report_sentence


@flow
@outcome.fail_flow_with_message
def import_dataset(source: SourceArchive, archive: NewArchive, importing: ImportParams = ImportParams()) -> State:
    """Read COCO, Pascal VOC, CVAT, Label Studio, LabelMe, Open Images, Datumaro, KITTI or YOLO of any layout.

    The archive that is made of it is checked like any other, published under a name that no other archive has, and
    tells in its provenance.json what it was made from. The report counts what was left out or changed, by kind.
    """
    current_run.log_step("importing %s", source)
    key = publication.require_free_name(archive)
    with scratch_folder("import") as folder:
        path, digest, _ = storage_steps.fetch_archive(source, folder)
        made = folder / "imported.zip"
        summary = importing_steps.convert_archive(path, made, importing, source, digest)
        made_digest = sha256_of(made)
        checked = validation_steps.check_archive(made, key, made_digest, ValidationPolicy())
        page = storage_steps.write_text(checked.page, Bucket.RUNS, f"{current_run.flow_run_id()}/report.html")
        artifacts.show_markdown("import-report", import_markdown(key, summary, report_sentence(checked.report), page))
        validation_steps.require_valid(checked.report, page)
        publication.record_import(made_digest, source, digest, summary)
        publication.publish_archive(made, key)
        uploads.announce_upload(key, made_digest, made)
    watch_steps.start_check(key)
    return outcome.completed(import_sentence(key, summary))
