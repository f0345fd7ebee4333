"""Runs of inference as run-inference leaves them, without a model."""

from pathlib import Path
from uuid import uuid4

import numpy as np

from infra import demo_data
from tasks.inference.publication import Publication
from tasks.inference.results.contact_sheet import CELL_HEIGHT, CELL_WIDTH, ContactSheet
from tasks.inference.results.gallery import write_gallery
from tasks.inference.results.summary import Failure
from tasks.media.images import write_jpeg
from tasks.parameters import InferenceParams
from tasks.storage.object_store import ObjectStore
from tasks.tracking.inference_runs import record_inference
from tests.tasks.inference.results.test_gallery import HOSTILE, counted, item, summary

FAILURE = Failure(source=HOSTILE, reason="Expected an image, found text. Leave it out.")
TEXT_FILE = "<i>&\"' ä%2F#?.jsonl"  # a name that no flow gives, but a store takes
STORE = ObjectStore("predictions")


def publish_run(model: str, folder: Path) -> str:
    """Store the results of seven pictures and a film, the gallery with links for seven days; returns the run's id."""
    run = str(uuid4())
    items = [item(number, f"street/{number}.jpg", counted(0, number, 0.9)) for number in range(1, 7)]
    items += [item(7, HOSTILE, counted(1, 1, 0.4)), item(8, "clip.mp4", counted(0, 9, 0.8), kind="video")]
    sheet = ContactSheet()
    for number in range(9):
        sheet.add(np.full((CELL_HEIGHT, CELL_WIDTH, 3), (40 + 20 * number, 120, 200 - 20 * number), np.uint8))
    sheet.write(folder / items[0].sheet)
    for each in items[:-1]:
        write_jpeg(folder / str(each.annotated), np.full((480, 640, 3), 99, np.uint8))
    demo_data.write_video(folder / str(items[-1].annotated), 10)
    (folder / "items.jsonl").write_text("".join(f"{each.to_line()}\n" for each in items))
    (folder / "failures.jsonl").write_text(f"{FAILURE.to_line()}\n")
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    (folder / "coco.json").write_text("{}")
    (folder / TEXT_FILE.replace("/", "")).write_text("{}\n")
    totals = summary(items, (FAILURE,))
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
    urls = STORE.presigned_urls(f"{run}/{file}" for file in files)
    links = {file: urls[f"{run}/{file}"] for file in files}
    write_gallery(folder / "index.html", totals, items, links, model_name=model)
    STORE.upload_folder(folder, run)
    publication = Publication(
        run=run, model_name=model, summary=totals, gallery="https://example.org", inference=InferenceParams()
    )
    record_inference.fn("some-run", publication, chosen=False)
    publication.complete()
    return run
