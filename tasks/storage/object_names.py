"""Buckets and names of objects."""

import re
from enum import StrEnum
from typing import NamedTuple


class Bucket(StrEnum):
    """The buckets of the contract."""

    DATASETS = "datasets"
    MEDIA = "media"
    PREDICTIONS = "predictions"
    MODELS = "models"
    BASE_MODELS = "base-models"
    MLFLOW = "mlflow"
    RUNS = "runs"


# People may list these with their own key, and a run reads nothing else for them.
OPEN = frozenset({Bucket.DATASETS, Bucket.MEDIA, Bucket.BASE_MODELS, Bucket.PREDICTIONS, Bucket.RUNS})
CLOSED = frozenset(Bucket) - OPEN


# In bucket `runs`, and no backup has them (tasks/storage/fence.py).
FENCE = "locks/backup/fence"
CHANGES = "locks/changes/"


class S3Uri(NamedTuple):
    """One object, or all objects whose key begins with `key`."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def name_for(self, default: Bucket) -> str:
        """Return what `parse_s3_uri` takes for this object: its key if that is enough, else its address."""
        return self.key if self.bucket == default and "://" not in self.key else str(self)


def parse_s3_uri(text: str, default: Bucket) -> S3Uri:
    """Return the object of `s3://bucket/key`, or of a bare key in the `default` bucket.

    Raises:
        ValueError: The key is empty or has `..`, the scheme is another, the bucket has no valid name, or people may not
            read it.
    """
    bucket = str(default)
    key = text
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
    elif "://" in text:
        raise ValueError(f"expected a key in bucket '{default}' or an s3:// address, found {text!r}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise ValueError(f"expected s3://BUCKET/KEY, found {text!r}, whose bucket {bucket!r} is no bucket name")
    if bucket in CLOSED:
        known = ", ".join(sorted(OPEN))
        raise ValueError(f"expected one of the buckets {known}, found {text!r}: no run reads bucket '{bucket}' for you")
    if not key or "\x00" in key:
        raise ValueError(f"expected the name of an object, found {text!r}, which names none")
    if {".", ".."} & set(key.split("/")):
        raise ValueError(
            f"expected the name of an object, found {text!r}: leave out '.' and '..', which are no folders here"
        )
    return S3Uri(bucket, key)


def key_in(bucket: Bucket, text: str) -> str | None:
    """Return the key in this bucket that a text names; None if it names something else, or nothing."""
    try:
        name = parse_s3_uri(text, bucket)
    except ValueError:
        return None
    return name.key if name.bucket == bucket else None
