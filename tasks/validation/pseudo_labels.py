"""What the origins of labels say: how many a model has made, whether that can be true, and where they must not be."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from tasks.dataset.findings import Finding, LabelSource, OriginStatistics, Statistics, error, info
from tasks.dataset.image_stats import ImageStats
from tasks.dataset.label_origins import Origin, origins_broken
from tasks.dataset.layout import Dataset, class_folder
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.validation.copied_labels import ImageBoxes, find_copied_labels
from tasks.validation.duplicates import DuplicatePair, link_twins
from tasks.validation.label_table import LabelTable
from tasks.vision.geometry import Bools, Ints

MEASURED = "images to measure on that a person has labelled"
_SHOWN = 3
_MOST_SOURCES = 20
_FORMS = {
    "model_name": re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"),
    "flow_run_id": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


def count_origins(dataset: Dataset, labels: LabelTable, statistics: Statistics) -> OriginStatistics | None:
    """Count images and labels of all splits by who made them; None if the archive names no label of a model.

    An image of which a model has made any label is the model's.
    """
    images = {sample.image for samples in dataset.splits.values() for sample in samples}
    pseudo = dataset.origins.pseudo_labelled & images
    accepted = (dataset.origins.images_of(Origin.ACCEPTED) & images) - pseudo
    if not pseudo and not accepted:
        return None
    rows = _frame(dataset)
    rows = rows[rows["image"].isin(images) & (rows["origin"] != Origin.HUMAN)]
    made = Counter(rows.loc[rows["row"].notna(), "origin"].astype(str))
    totals = statistics.totals
    return OriginStatistics(
        images={
            Origin.HUMAN: totals["images"] - len(pseudo) - len(accepted),
            Origin.MODEL: len(pseudo),
            Origin.ACCEPTED: len(accepted),
        },
        labels={
            Origin.HUMAN: totals["labels"] - made.total(),
            **{origin: made[origin] for origin in (Origin.MODEL, Origin.ACCEPTED)},
        },
        instances=_classes(dataset, labels, rows[rows["origin"] == Origin.MODEL]),
        sources=_sources(rows[rows["origin"] == Origin.MODEL]),
        accepted_sources=_sources(rows[rows["origin"] == Origin.ACCEPTED]),
    )


def origin_findings(dataset: Dataset, labels: LabelTable, statistics: Statistics) -> Iterator[Finding]:
    """Yield label-origins-broken, pseudo-labels-outside-train and pseudo-labels, each once for all that it is about."""
    if broken := list(_faults(dataset, labels)):
        yield origins_broken("origins of the labels that are there, each once", "; ".join(broken))
    outside = [
        (sample.image, split)
        for split, samples in dataset.splits.items()
        for sample in samples
        if split != "train" and sample.image in dataset.origins.pseudo_labelled
    ]
    if outside:
        splits = " and ".join(sorted({split for _, split in outside}))
        found = f"{len(outside)} in {splits} that a model has labelled, such as {safe_repr(outside[0][0])}"
        fix = "Move them to train, or have a person look at them."
        code = Code.PSEUDO_LABELS_OUTSIDE_TRAIN
        yield error(code, MEASURED, found, fix, path=outside[0][0])
    origins = statistics.origins
    if origins and (images := origins.images[Origin.MODEL]):
        models = dict.fromkeys(each.model for each in origins.sources)
        found = f"{images} of {sum(origins.images.values())} with {origins.labels[Origin.MODEL]} labels of "
        found += ", ".join(models)
        fix = "They are trained on, as much as training.pseudo_weight says, and never measured on."
        yield info(Code.PSEUDO_LABELS, "images that a person has labelled", found, fix)


def copied_label_findings(
    dataset: Dataset, labels: LabelTable, images: Mapping[str, ImageStats], twins: Sequence[DuplicatePair]
) -> Iterator[Finding]:
    """Yield pseudo-labels-outside-train once for all images that have the labels of a model, and do not say so.

    Half or more of the labels of each are those of an image that a model has labelled, some of which the model has
    made, and no origin names it. Of an image as a whole (classify) nobody can tell.
    """
    made = sorted(dataset.origins.pseudo_labelled)
    measured = sorted(
        {sample.image for split, samples in dataset.splits.items() if split != "train" for sample in samples}
        - dataset.origins.images
    )
    if not made or not measured or labels.rows.empty:
        return
    sizes = np.array([images[name][:2] if name in images else (0, 0) for name in measured], np.float64)
    same_as = {name: number for number, names in enumerate(link_twins(twins)) for name in names}
    boxes, _ = _boxes(dataset, labels, measured)
    original_boxes, rows = _boxes(dataset, labels, made)
    copies = [
        *find_copied_labels(
            boxes,
            sizes,
            original_boxes,
            _is_by_model(dataset, labels)[rows],
            lambda image, original: same_as.get(measured[image], -1) == same_as.get(made[original], -2),
        )
    ]
    if copies:
        image, other = measured[copies[0].image], made[copies[0].original]
        found = describe_copied_labels(len(copies), image, other, copies[0].labels)
        fix = "Take them out, or have a person look at them: review-images notes who has."
        yield error(Code.PSEUDO_LABELS_OUTSIDE_TRAIN, MEASURED, found, fix, path=image, other=other)


def describe_copied_labels(count: int, image: str, original: str, labels: int) -> str:
    """Return what was found: so many images, such as one that has so many labels of an original."""
    shared = f"{labels:,} labels" if labels > 1 else "a label"
    return (
        f"{count:,} with labels that a model has made, to the fifth decimal, such as {safe_repr(image)}, which has "
        f"{shared} of {safe_repr(original)}"
    )


def _is_by_model(dataset: Dataset, labels: LabelTable) -> Bools:
    """Return which labels a model has made; of an image that is known as a whole, all that are not told otherwise."""
    rows = _frame(dataset)
    by_model = rows["origin"] == Origin.MODEL
    named = _is_named(dataset, labels, rows[by_model])
    files = labels.rows["label"].cat.codes
    return named | ~(np.isin(files, files[named].unique()) | _is_named(dataset, labels, rows[~by_model]))


def _boxes(dataset: Dataset, labels: LabelTable, images: Sequence[str]) -> tuple[ImageBoxes, Ints]:
    """Return the labels of images as boxes, and where they are in the table."""
    place_of = {label: place for place, image in enumerate(images) if (label := dataset.labels.get(image))}
    files = labels.rows["label"].cat
    place = np.array([place_of.get(name, -1) for name in files.categories], np.int64)[files.codes]
    own = np.flatnonzero(place >= 0)
    rows = labels.rows.iloc[own]
    centre, half = rows[["x", "y"]].to_numpy(), rows[["width", "height"]].to_numpy() / 2
    return ImageBoxes(place[own], np.column_stack([rows["class_id"], centre - half, centre + half])), own


def _faults(dataset: Dataset, labels: LabelTable) -> Iterator[str]:
    rows = _frame(dataset)
    whole = dataset.task == "classify"
    counts = {image: 1 if whole else labels.written.get(label or "", 0) for image, label in dataset.labels.items()}
    label_count = rows["image"].map(counts).astype(float)
    confidence = rows["confidence"]
    for fault, where in {
        "of images that are not there": label_count.isna(),
        "of labels that are not there": (rows["row"] < 0) | (rows["row"] >= label_count),
        "told twice": rows.duplicated(["image", "row"]),
        "with a confidence outside 0 to 1": (confidence < 0) | (confidence > 1),
        "with a version below 1": rows["model_version"] < 1,
        **{f"with another {name} than one of ours": _misformed(rows[name], form) for name, form in _FORMS.items()},
    }.items():
        if count := int(where.sum()):
            named = ", ".join(safe_repr(name) for name in dict.fromkeys(rows.loc[where, "image"][:_SHOWN]))
            yield f"{count} {fault}, such as of {named}"


def _frame(dataset: Dataset) -> pd.DataFrame:
    """Return the table of origins; rows and versions as float64, NaN if there is none."""
    frame: pd.DataFrame = dataset.origins.table.to_pandas()
    return frame.astype({"row": float, "model_version": float})


def _misformed(texts: "pd.Series[str]", form: re.Pattern[str]) -> "pd.Series[bool]":
    wrong = [text for text in texts.cat.categories if not form.fullmatch(text)]
    return texts.isin(wrong)


def _classes(dataset: Dataset, labels: LabelTable, rows: pd.DataFrame) -> dict[str, int]:
    """Return how many labels of each class are among rows of the table of origins."""
    if dataset.task == "classify":
        return dict(Counter(map(class_folder, rows.loc[rows["row"].notna(), "image"])))
    made = _is_named(dataset, labels, rows)
    numbers, counts = np.unique(labels.rows["class_id"][made], return_counts=True)
    names = dataset.class_names
    return {
        names[number] if names else str(number): count
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    }


def _is_named(dataset: Dataset, labels: LabelTable, rows: pd.DataFrame) -> Bools:
    """Return which labels of the table are among rows of the table of origins."""
    files = labels.rows["label"].cat
    places = labels.rows.groupby("label", observed=True).cumcount().to_numpy(np.int64)
    most = places.max(initial=0) + 1
    told = rows[rows["row"] < most]
    own = pd.Index([dataset.labels.get(image) for image in told["image"].cat.categories], dtype=object)
    file_of = files.categories.get_indexer(own)
    keys = file_of[told["image"].cat.codes] * most + told["row"].astype(np.int64)
    return np.isin(files.codes.to_numpy(np.int64) * most + places, keys)


def _sources(rows: pd.DataFrame) -> tuple[LabelSource, ...]:
    """Return the versions and runs that made most of the labels."""
    keys = ["model_name", "model_version", "flow_run_id"]
    groups = rows.groupby(keys, observed=True, dropna=False)["image"].nunique().reset_index(name="images")
    most = groups.nlargest(_MOST_SOURCES, "images").astype(object)
    return tuple(
        LabelSource(
            model_name=row["model_name"],
            model_version=None if row["model_version"] is None else int(row["model_version"]),
            flow_run_id=row["flow_run_id"],
            images=row["images"],
        )
        for row in most.where(most.notna(), None).to_dict("records")
    )
