"""Names of objects."""

import pytest

from tasks.storage.object_names import Bucket, S3Uri, parse_s3_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.zip", S3Uri("datasets", "a.zip")),
        ("team/a.zip", S3Uri("datasets", "team/a.zip")),
        ("s3://other-bucket/x/y.zip", S3Uri("other-bucket", "x/y.zip")),
    ],
)
def test_an_address_or_a_key_names_an_object(text: str, expected: S3Uri) -> None:
    assert parse_s3_uri(text, Bucket.DATASETS) == expected


@pytest.mark.parametrize(
    "text",
    ["", "s3://", "s3://bucket", "s3://bucket/", "s3://a_b/x", "http://x/y", "a\x00b", "../../etc/passwd", "a/./b"],
)
def test_an_address_that_names_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_s3_uri(text, Bucket.DATASETS)


@pytest.mark.parametrize("bucket", ["models", "mlflow"])
def test_no_run_reads_for_people_what_their_key_may_not(bucket: str) -> None:
    with pytest.raises(ValueError, match=f"found 's3://{bucket}/x/y.zip': no run reads bucket '{bucket}'"):
        parse_s3_uri(f"s3://{bucket}/x/y.zip", Bucket.MEDIA)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        (S3Uri("datasets", "a/b.zip"), "a/b.zip"),
        (S3Uri("media", "b.zip"), "s3://media/b.zip"),
        (S3Uri("datasets", "s3://x/b.zip"), "s3://datasets/s3://x/b.zip"),
    ],
)
def test_a_name_leads_back_to_its_object(stored: S3Uri, name: str) -> None:
    assert stored.name_for(Bucket.DATASETS) == name
    assert parse_s3_uri(name, Bucket.DATASETS) == stored
