"""What COCO says that YOLO cannot say, or that contradicts itself."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.tasks.importing import sources
from tests.tasks.importing.sources import HEIGHT, WIDTH, Box
from tests.tasks.importing.test_round_trip import imported

IMAGES = {"a.jpg": [Box("cat", 4, 4, 30, 40)], "b.jpg": [Box("dog", 4, 4, 30, 40)]}


def changed(files: Mapping[str, bytes | str], **more: Any) -> dict[str, bytes | str]:
    """The files with these records before those of each list."""
    ((name, text),) = [(name, text) for name, text in files.items() if isinstance(text, str)]
    document = json.loads(text)
    for key, records in more.items():
        document[key] = [*records, *document[key]]
    return {**files, name: json.dumps(document)}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["left", "right"], []),
        (["right", "left"], ["classes name their keypoints differently", "images are not mirrored"]),
        ([], ["classes name their keypoints differently", "images are not mirrored"]),
    ],
    ids=["the same", "others", "none"],
)
def test_keypoints_are_named_by_all_classes_that_have_some_or_not_at_all(names: list[str], told: list[str]) -> None:
    files = sources.coco_keypoints(IMAGES)
    entry = next(name for name in files if name.endswith("json"))
    document = json.loads(files[entry])
    cat, dog = document["categories"]
    cat["keypoints"], dog["keypoints"] = ["left", "right"], names
    document["categories"] += [{"id": 9, "name": "owl", "keypoints": ["beak"]}]  # of which there are no objects
    summary, _, _ = imported({**files, entry: json.dumps(document)})
    found = [note for note in summary.notes if not note.startswith("splits")]
    assert all(note.startswith(words) for note, words in zip(found, told, strict=True))


def test_images_and_categories_that_share_an_id_are_told_and_classes_of_one_name_are_one() -> None:
    listed = json.loads(str(sources.coco(IMAGES)["annotations/instances_default.json"]))
    image, category = listed["images"][0], listed["categories"][0]
    for key, record, told in (
        ("images", image, {}),
        ("images", image | {"file_name": "b.jpg"}, {"left out: an image whose id another one has": 2}),
        ("categories", category | {"name": "cow"}, {"left out: a category whose id another one has": 2}),
        ("categories", category | {"id": 9}, {"changed: a class that has the name of another is the same": 1}),
    ):
        summary, _, _ = imported(changed(sources.coco(IMAGES), **{key: [record]}))
        changes = {kind: count for kind, count in summary.changes.items() if "another" in kind}
        assert (changes, summary.objects.get("cat", 0)) == (told, 0 if "left out" in str(told) else 1)


def test_an_image_of_unknown_size_keeps_its_labels_and_a_file_without_annotations_its_images() -> None:
    entry = "annotations/instances_default.json"
    document = json.loads(str(sources.coco(IMAGES)[entry]))
    unknown = document | {"images": [image | {"width": 0, "height": 0} for image in document["images"]]}
    for changes, objects in ((unknown, {"cat": 1, "dog": 1}), (document | {"annotations": None}, {})):
        summary, _, _ = imported({**sources.coco(IMAGES), entry: json.dumps(changes)})
        assert (sum(summary.images.values()), summary.objects) == (2, objects)


@pytest.mark.parametrize(("image", "category"), [("7", "3"), (7.0, 3.0)])
def test_an_id_is_the_same_as_a_number_as_its_text_and_as_a_fraction(image: object, category: object) -> None:
    """The one object of an image whose reading fails keeps it from becoming background."""
    box = {"image_id": image, "category_id": category, "bbox": [1, 1, 9, 9]}
    summary, labels, _ = imported(changed(sources.coco(IMAGES), annotations=[box]))
    assert (len(labels["a"]), summary.changes) == (2, {})

    damaged = sources.coco({**IMAGES, "a.jpg": []})
    summary, _, _ = imported(changed(damaged, annotations=[{**box, "category_id": []}]))
    assert sum(summary.images.values()) == 1


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        ({"size": [HEIGHT, WIDTH], "counts": [7]}, "a mask whose run lengths do not fill it"),
        ({"size": [WIDTH, HEIGHT], "counts": [0, WIDTH * HEIGHT]}, "a mask that has not the size of its image"),
        ({"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}, "a mask without a pixel"),
        ({"size": [-1, 5], "counts": [5]}, "a mask that has not the size of its image"),
        ({"size": [HEIGHT, WIDTH], "counts": [-7, WIDTH * HEIGHT + 7]}, "a mask whose run lengths do not fill it"),
        ({"size": [HEIGHT, WIDTH], "counts": [0, WIDTH * HEIGHT, 9]}, "a mask whose run lengths do not fill it"),
        ([[1, 1, 9, 9]], "an outline of fewer than three corners"),
    ],
)
def test_the_box_of_an_unusable_mask_is_a_label_of_boxes_and_none_of_outlines(mask: object, what: str) -> None:
    more = {"image_id": 7, "category_id": 3, "bbox": [1, 1, 9, 9], "segmentation": mask}
    files = changed(sources.coco_polygons(IMAGES), annotations=[more])
    for task, objects, told in (("detect", 2, "not kept"), ("segment", 1, "left out")):
        summary, _, _ = imported(files, task=task)
        assert (summary.objects["cat"], summary.changes[f"{told}: {what}"]) == (objects, 1)
