"""A model version as Triton serves it: what a client has to know to use it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModel:
    """One pinned version: images go in letterboxed to `image_size` x `image_size` pixels."""

    name: str
    version: int
    task: str
    image_size: int
    class_names: tuple[str, ...]
    run_id: str
