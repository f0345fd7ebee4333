"""Names of objects."""

import pytest

from tasks.storage.object_names import Bucket, ObjectName, parse_object_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.zip", ObjectName("datasets", "a.zip")),
        ("team/a.zip", ObjectName("datasets", "team/a.zip")),
        ("s3://other-bucket/x/y.zip", ObjectName("other-bucket", "x/y.zip")),
    ],
)
def test_parsed(text: str, expected: ObjectName) -> None:
    assert parse_object_name(text, Bucket.DATASETS) == expected


@pytest.mark.parametrize(
    "text",
    ["", "s3://", "s3://bucket", "s3://bucket/", "s3://a_b/x", "http://x/y", "a\x00b", "../../etc/passwd", "a/./b"],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_object_name(text, Bucket.DATASETS)


@pytest.mark.parametrize("bucket", ["models", "mlflow"])
def test_no_run_reads_for_people_what_their_key_may_not(bucket: str) -> None:
    with pytest.raises(ValueError, match=f"found 's3://{bucket}/x/y.zip': no run reads bucket '{bucket}'"):
        parse_object_name(f"s3://{bucket}/x/y.zip", Bucket.MEDIA)
