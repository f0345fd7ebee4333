"""Notifications of MinIO and AWS are understood, and nothing else is."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset_watch.notifications import (
    MAX_BYTES,
    MAX_RECORDS,
    NotificationError,
    ObjectChange,
    parse_notification,
)

CHANGE = ObjectChange(bucket="datasets", key="a b+ä/x.zip")


def record(change: ObjectChange = CHANGE, name: str = "ObjectCreated:Put", **more: Any) -> dict[str, Any]:
    described = {"key": quote_plus(change.key), "size": 1024, "eTag": "d41d8", "sequencer": "0A1B"}
    s3 = {"s3SchemaVersion": "1.0", "bucket": {"name": change.bucket, "arn": "arn:aws:s3:::x"}, "object": described}
    return {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name, "s3": s3, **more}


def minio(*records: dict[str, Any]) -> dict[str, Any]:
    """As MinIO posts it to a webhook."""
    return {"EventName": "s3:ObjectCreated:Put", "Key": "datasets/x.zip", "Records": list(records)}


def event_bridge(change: ObjectChange = CHANGE, kind: str = "Object Created") -> dict[str, Any]:
    """As EventBridge sends it; it does not quote keys."""
    described = {"key": change.key, "size": 5, "etag": "d41d8", "version-id": "IYV3", "sequencer": "00617F"}
    detail = {"version": "0", "bucket": {"name": change.bucket}, "object": described, "reason": "PutObject"}
    return {"version": "0", "detail-type": kind, "source": "aws.s3", "account": "1", "detail": detail}


def sns(message: object, kind: str = "Notification") -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"Type": kind, "MessageId": "1", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": text}


def parse(message: object) -> tuple[ObjectChange, ...]:
    return parse_notification(json.dumps(message).encode())


@pytest.mark.parametrize(
    "message",
    [
        minio(record(name="s3:ObjectCreated:Put")),
        minio(record(name="s3:ObjectCreated:CompleteMultipartUpload")),
        {"Records": [record()]},
        {"Records": [record(), record()]},
        sns({"Records": [record()]}),
        event_bridge(),
        sns(event_bridge()),
    ],
)
def test_each_sender_says_the_same_object(message: object) -> None:
    assert parse(message) == (CHANGE,)


@pytest.mark.parametrize(
    "message",
    [
        minio(record(name="s3:ObjectRemoved:Delete")),
        minio(record(name="s3:ObjectAccessed:Get")),
        event_bridge(kind="Object Deleted"),
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "datasets"},
        {"Records": []},
    ],
)
def test_what_writes_no_object_changes_nothing(message: object) -> None:
    assert parse(message) == ()


def test_a_subscription_is_not_confirmed_but_explained() -> None:
    asked = sns("You have chosen to subscribe", "SubscriptionConfirmation") | {"SubscribeURL": "https://sns.x/?Token=2"}
    with pytest.raises(
        NotificationError, match=r"Nothing was confirmed.*open its SubscribeURL.*https://sns.x/\?Token=2"
    ):
        parse(asked)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'"Records"',
        b"{}",
        b"[" * 100_000,
        b'{"Records": ' + b"9" * 10_000 + b"}",
        b'{"Records": "' + b"x" * MAX_BYTES + b'"}',
        json.dumps({"Records": [record()] * (MAX_RECORDS + 1)}).encode(),
        json.dumps({"Records": [{}]}).encode(),
        json.dumps({"Records": [record() | {"s3": None}]}).encode(),
        json.dumps({"Records": [record(ObjectChange(bucket="d" * 300, key="a.zip"))]}).encode(),
        json.dumps({"detail-type": "Object Created"}).encode(),
        json.dumps(sns({"Records": []}) | {"Message": {"Records": []}}).encode(),
        json.dumps(sns(sns({"Records": []}))).encode(),
        json.dumps(sns({}, "UnsubscribeConfirmation")).encode(),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(body: bytes) -> None:
    with pytest.raises(NotificationError, match=r"^Expected .*, found .*Send the event notifications of") as refused:
        parse_notification(body)
    assert len(str(refused.value)) < 600


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["Records", "s3", "key", "Type", "detail"]), inner),
)


@given(JSON)
def test_no_json_is_a_defect(message: object) -> None:
    try:
        parse(message)
    except NotificationError:
        return
