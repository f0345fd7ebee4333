"""The validation sample of a version, fetched when it is first needed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.dataset.validation_sample import ValidationSample, unpack_sample
from tasks.errors import StudioError
from tasks.merge.steps import SAMPLE
from tasks.tracking.registry import ModelVersion
from tasks.tracking.runs import download_artifact


@dataclass(frozen=True)
class VersionSample:
    """The images of the training's validation split that a version is compared on, in a folder of this flow run.

    Both properties raise StudioError if there are none, and SampleError if they are no sample.
    """

    registered: ModelVersion
    folder: Path

    @cached_property
    def packed(self) -> Path:
        """The zip."""
        packed = download_artifact(self.registered.run_id, SAMPLE, self.folder / "sample")
        if packed is None:
            raise StudioError(
                f"Expected {SAMPLE} in the MLflow run of {self.registered.name} version {self.registered.version}, "
                f"found none. Train it again, or go without the comparison: serving.parity = null, and another "
                "serving.precision than int8."
            )
        return packed

    @cached_property
    def unpacked(self) -> ValidationSample:
        """The images with their labels."""
        return unpack_sample(self.packed, self.registered.task, self.folder / "shown")
