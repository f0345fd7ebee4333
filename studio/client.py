"""The class for scripts and notebooks: each method starts a run of a flow, or reads what is there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from studio.connection import connect
from studio.runs import InferenceRun, Run
from tasks.errors import StudioError

if TYPE_CHECKING:
    from tasks.catalogue.difference import ArchiveDifference
    from tasks.catalogue.entries import ArchiveEntry, ModelEntry, Page, PredictionEntry
    from tasks.catalogue.lineage import Lineage

Entry = TypeVar("Entry")
Values = Mapping[str, Any]


class Studio:
    """The services that the environment names, else those of the local stack.

    A method that starts a run returns it at once: `Studio().train("shapes", ["a.zip"]).wait()`. Parameters have the
    names and rules of docs/flows.md; the server refuses what breaks them. Each error that a person can act on is a
    StudioError; `transient` is true if a service did not answer.
    """

    def __init__(self) -> None:
        """Raises NotConnectedError, a StudioError, if there are no services."""
        connect()

    def upload(self, path: Path | str, *, bucket: str | None = None, prefix: str = "", replace: bool = False) -> str:
        """Put a file into a bucket under its own name, in folder `prefix` if there is one; returns its key.

        Without `bucket` a zip goes into `datasets`, an image or a video into `media`, weights into `base-models`.

        Raises:
            StudioError: There is no such file, or an object of that name is there and `replace` is false.
        """
        from infra.stack import load_settings
        from infra.upload import bucket_of, upload

        paths = [Path(path)]
        return upload(load_settings(), paths, bucket or bucket_of(paths), prefix, replace=replace)[0]

    def validate(self, archive: str, **policy: object) -> Run:
        """Check an archive of bucket `datasets`; keywords are fields of ValidationPolicy."""
        return self.start("validate-dataset", archive=_stored(archive), policy=policy)

    def import_dataset(self, source: str, archive: str, **importing: object) -> Run:
        """Make `archive` of a source in the format of another tool; keywords are fields of ImportParams.

        `source` is a key in bucket `datasets`, such as `sources/a.zip`, or an `s3://` address.
        """
        return self.start("import-dataset", source=source, archive=archive, importing=importing)

    def train(
        self,
        model: str,
        archives: Sequence[str],
        *,
        base_model: str = "yolo11n.pt",
        merge: Values | None = None,
        promotion: Values | None = None,
        **training: object,
    ) -> Run:
        """Train a version on archives of bucket `datasets`; keywords are fields of TrainingParams, such as `epochs`."""
        return self.start(
            "train-model",
            model_name=model,
            archives=[_stored(archive) for archive in archives],
            base_model=base_model,
            training=training,
            merge=merge,
            promotion=promotion,
        )

    def register(self, model: str, weights: str, archive: str | None = None, **promotion: object) -> Run:
        """Register weights of bucket `base-models` as a version; keywords are fields of PromotionPolicy."""
        return self.start(
            "register-model",
            model_name=model,
            weights=weights,
            archive=archive and _stored(archive),
            promotion=promotion,
        )

    def evaluate(
        self,
        model: str,
        archive: str,
        *,
        split: str = "val",
        versions: Sequence[int] | None = None,
        **evaluation: object,
    ) -> Run:
        """Measure versions (None: the champion) on an archive; keywords are fields of EvaluationParams."""
        return self.start(
            "evaluate-model",
            model_name=model,
            archive=_stored(archive),
            split=split,
            versions=list(versions) if versions else None,
            evaluation=evaluation,
        )

    def find_label_errors(self, model: str, archive: str, *, version: int | None = None, **label_errors: object) -> Run:
        """Rank labels that look wrong to a version (None: the champion); keywords are fields of LabelErrorParams."""
        return self.start(
            "find-label-errors",
            model_name=model,
            archive=_stored(archive),
            version=version,
            label_errors=label_errors,
        )

    def select_images(self, model: str, inputs: Sequence[str], **selection: object) -> Run:
        """Choose images to label among keys, prefixes, globs or run:ID; keywords are fields of SelectionParams."""
        return self.start("select-images", model_name=model, inputs=list(inputs), selection=selection)

    def deploy(self, model: str, version: int | None = None, **serving: object) -> Run:
        """Serve a version (None: the challenger); keywords are fields of ServingParams."""
        return self.start("deploy-model", model_name=model, version=version, serving=serving)

    def rollback(self, model: str, version: int | None = None) -> Run:
        """Serve the champion before the present one again, or a version that is named."""
        return self.start("rollback-model", model_name=model, version=version)

    def undeploy(self, model: str) -> Run:
        """Serve a model no longer."""
        return self.start("undeploy-model", model_name=model)

    def infer(self, model: str, inputs: Sequence[str], **inference: object) -> InferenceRun:
        """Detect on keys, prefixes or globs of bucket `media`; keywords are fields of InferenceParams."""
        run = self.start("run-inference", model_name=model, inputs=list(inputs), inference=inference)
        return InferenceRun(run.id)

    def label(self, model: str, inputs: Sequence[str], archive: str, **labelling: object) -> Run:
        """Make `archive` of what a version is sure of in images; keywords are fields of LabellingParams."""
        return self.start("label-images", model_name=model, inputs=list(inputs), archive=archive, labelling=labelling)

    def review(self, model: str, inputs: Sequence[str], archive: str, **review: object) -> Run:
        """Have people keep, refuse or correct what a model finds in images, as `archive`.

        Keywords are fields of ReviewParams. The run is suspended while people answer.
        """
        return self.start("review-images", model_name=model, inputs=list(inputs), archive=archive, review=review)

    def monitor(self, model: str, **monitoring: object) -> Run:
        """Tell whether a version is still right on what it has seen lately; keywords are fields of MonitoringParams."""
        return self.start("monitor-model", model_name=model, monitoring=monitoring)

    def loop(self, model: str, inputs: Sequence[str], **parameters: object) -> Run:
        """Label images, have people correct what teaches most of the rest, train, and deploy if the version is better.

        Keywords are the other parameters of `close-loop`, such as `labelling={"precision": 0.98}`. The run is suspended
        while people draw.
        """
        return self.start("close-loop", model_name=model, inputs=list(inputs), **parameters)

    def pipeline(self, model: str, archives: Sequence[str], *, inputs: Sequence[str] = (), **parameters: object) -> Run:
        """Validate archives, train, deploy if the version is better, and infer over `inputs`.

        Keywords are the other parameters of `run-pipeline`, such as `training={"epochs": 50}`.
        """
        return self.start("run-pipeline", model_name=model, archives=list(archives), inputs=list(inputs), **parameters)

    def delete_dataset(self, archive: str, *, force: bool = False) -> Run:
        """Delete an archive of bucket `datasets`; its reports and its lineage stay."""
        return self.start("delete-dataset", archive=archive, force=force)

    def delete_version(self, model: str, version: int, *, force: bool = False) -> Run:
        """Delete a registered version that is not in use; its run in MLflow stays."""
        return self.start("delete-version", model_name=model, version=version, force=force)

    def delete_predictions(self, run: str, *, force: bool = False) -> Run:
        """Delete the results of a run of inference."""
        return self.start("delete-predictions", run=run, force=force)

    def start(self, flow: str, **parameters: object) -> Run:
        """Start a run of `<flow>/gpu`; parameters that are None or empty mappings keep the flow's defaults.

        Raises:
            StudioError: The server refuses them, in its own words.
        """
        from tasks.orchestration import deployed_flows

        chosen = {name: value for name, value in parameters.items() if value is not None and value != {}}
        return Run(deployed_flows.start(flow, chosen))

    def datasets(self, *, search: str = "", verdict: str | None = None) -> "Iterator[ArchiveEntry]":
        """Yield the archives of bucket `datasets` by key, with what their check found."""
        from tasks.catalogue.archives import list_archives

        return _entries(lambda cursor: list_archives(cursor=cursor, search=search, verdict=verdict))

    def models(self, *, search: str = "") -> "Iterator[ModelEntry]":
        """Yield the registered models by name, with their versions."""
        from tasks.catalogue.models import list_models

        return _entries(lambda cursor: list_models(cursor=cursor, search=search))

    def model(self, name: str) -> "ModelEntry":
        """Return a registered model with its versions.

        Raises:
            CatalogueError: There is none of this name.
        """
        from tasks.catalogue.models import read_model

        return read_model(name)

    def predictions(self, *, model: str = "") -> "Iterator[PredictionEntry]":
        """Yield the runs of inference, the newest first."""
        from tasks.catalogue.predictions import list_predictions

        return _entries(lambda cursor: list_predictions(cursor=cursor, model=model))

    def lineage(self, name: str) -> "Lineage":
        """Return what an archive, a model, a version such as `shapes/3` or a run was made from, and what from it.

        Raises:
            CatalogueError: There is nothing of this name.
        """
        from tasks.catalogue.lineage import trace

        return trace(name)

    def diff(self, before: str, after: str) -> "ArchiveDifference":
        """Return how two archives of bucket `datasets` differ.

        Raises:
            StudioError: One is not there, or is no archive.
        """
        from tasks.catalogue.difference import compare_archives

        return compare_archives(before, after)


def _entries(read: "Callable[[str], Page[Entry]]") -> Iterator[Entry]:
    page = read("")
    yield from page.entries
    while page.next_cursor:
        page = read(page.next_cursor)
        yield from page.entries


def _stored(archive: str) -> str:
    """The name of an archive; a file of this disk that is not uploaded would be looked for in vain."""
    if "/" in archive and not archive.startswith("s3://") and Path(archive).is_file():
        name = Path(archive).name
        raise StudioError(
            f"Expected the key of an archive in bucket datasets, found the file {archive}. Upload it first: "
            f"Studio().upload({archive!r}), then name {name!r}."
        )
    return archive
