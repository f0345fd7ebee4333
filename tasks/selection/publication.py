"""What a selection leaves: the list of its images for the next run, its page and its figures."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tasks.inference.image_lists import (
    ImageList,
    ListedImage,
    find_predictions_run,
    named_run,
    write_image_list,
)
from tasks.inference.media_inputs import MediaStore
from tasks.media.annotate import annotate_image
from tasks.media.errors import MediaError
from tasks.media.images import decode_image, encode_jpeg, resize_to_fit
from tasks.orchestration import artifacts, events
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.step import retried
from tasks.rendering.html import jpeg_data_uri
from tasks.rendering.links import links_markdown
from tasks.selection.choice import Choice
from tasks.selection.page import (
    SHOWN,
    Selection,
    nothing_markdown,
    selection_facts,
    selection_markdown,
    selection_page,
    selection_sentence,
)
from tasks.selection.session import LookedAt, NothingToChooseError
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.storage.s3_client import TRANSFERS

PAGE = "selection.html"
_SIDE = 320  # pixels of a picture
_QUALITY = 80


def publish_selection(model_name: str, version: int, inputs: Sequence[str], looked_at: LookedAt, choice: Choice) -> str:
    """Write the list, the page and the figures to bucket `runs`, show artifact `selection`, and return a sentence.

    The list hands on which run of inference has answered all that `inputs` name, if one run has. Event
    `images.selected` tells of it if an image was chosen.

    Raises:
        StorageError: The object store cannot be reached.
    """
    run = flow_run_id()
    selection = Selection(title=f"{model_name} version {version}", run=run, looked_at=looked_at, choice=choice)
    log_step("drawing %d images", min(len(choice.chosen), SHOWN))
    html = selection_page(selection, _draw_pictures(looked_at, choice))
    facts = json.dumps(selection_facts(selection), indent=2)
    page = retried(storage_steps.write_text)(html, Bucket.RUNS, f"{run}/{PAGE}")
    figures = retried(storage_steps.write_text)(facts, Bucket.RUNS, f"{run}/selection.json")
    images = [
        ListedImage(source=looked_at.pool.images[each.image].source, reason=each.reason) for each in choice.chosen
    ]
    listed = named_run(inputs[0]) if len(inputs) == 1 else None
    predictions_run = find_predictions_run(listed) if listed else None
    write_image_list(run, ImageList(images=tuple(images), predictions_run=predictions_run))
    links = links_markdown({"Images worth labelling": page, "As JSON": figures})
    artifacts.show_markdown("selection", f"{links}\n\n{selection_markdown(selection)}")
    if images:
        payload = {
            "model": model_name,
            "version": version,
            "run": run,
            "images": len(images),
            "boxes": round(selection.boxes),
            "page": page,
        }
        events.emit(
            events.IMAGES_SELECTED,
            events.version(model_name, version),
            payload=payload,
            key=run,
            related=[events.model(model_name)],
        )
    return selection_sentence(selection)


def publish_nothing(nothing: NothingToChooseError) -> None:
    """Write a list without an image, and show artifact `selection`, which says why there was nothing to choose from.

    By the list whoever goes on with this run finds that none was chosen.

    Raises:
        StorageError: The object store cannot be reached.
    """
    write_image_list(flow_run_id(), ImageList(images=()))
    artifacts.show_markdown("selection", nothing_markdown(nothing))


def _draw_pictures(looked_at: LookedAt, choice: Choice) -> dict[int, str]:
    """The chosen images with what was found in them, as data URIs; one that changed meanwhile has none."""
    store, pool = MediaStore(), looked_at.pool

    def draw(number: int) -> str | None:
        shown = pool.images[number]
        with suppress(MediaError, ObjectChangedError):
            image = resize_to_fit(decode_image(store.read(shown.source)), _SIDE)
            found = shown.found.rescale(image.shape[1], image.shape[0])
            return jpeg_data_uri(encode_jpeg(annotate_image(image, found, pool.class_names), _QUALITY))
        return None

    numbers = [each.image for each in choice.chosen[:SHOWN]]
    with ThreadPoolExecutor(TRANSFERS) as threads:
        return {number: uri for number, uri in zip(numbers, threads.map(draw, numbers), strict=True) if uri}
