"""Event notifications of an object store: what MinIO and S3 say about new objects, directly or through AWS.

The text comes from outside, so everything about it is checked, and no address in it is ever opened.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from tasks.errors import StudioError, expected_found_fix, safe_repr

MAX_BYTES = 1 << 20  # SNS sends 256 KiB at most
MAX_RECORDS = 100
_MAX_TEXT = 1024  # characters
_MAX_BUCKET = 200  # characters of its name
_CREATED = "ObjectCreated:"
_TEST = "s3:TestEvent"


class NotificationError(StudioError):
    """A request is no event notification, or one that nothing can be done about."""


@dataclass(frozen=True, kw_only=True)
class ObjectChange:
    """An object that was written; what it holds now, the store alone says, and whether its key can be one."""

    bucket: str
    key: str


def parse_notification(body: bytes) -> tuple[ObjectChange, ...]:
    """Return the objects that a notification says were written, each once; none if it is about something else.

    Args:
        body: The JSON that MinIO or S3 sends, the same within SNS's envelope, or an event of EventBridge.

    Raises:
        NotificationError: It is none of these, or SNS asks to confirm a subscription.
    """
    message = _load(body)
    if "Type" in message:
        message = _unwrap(message)
    if "detail-type" in message:
        changes = _from_event_bridge(message)
    elif "Records" in message:
        changes = _from_records(message["Records"])
    elif message.get("Event") == _TEST:  # S3 sends one when notifications are set up
        changes = []
    else:
        _refuse("an object with Records, detail-type or Type", sorted(message)[:10])
    return tuple(dict.fromkeys(changes))


def _load(body: bytes | str) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        _refuse(f"at most {MAX_BYTES} bytes", len(body))
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        _refuse("JSON", body[:80])
    return _object(message, "message")


def _unwrap(envelope: dict[str, Any]) -> dict[str, Any]:
    """The message in an envelope of SNS."""
    kind = envelope["Type"]
    if kind == "SubscriptionConfirmation":
        topic, address = (safe_repr(envelope.get(name), 1000) for name in ("TopicArn", "SubscribeURL"))
        raise NotificationError(
            f"SNS asks to confirm a subscription of topic {topic}. Nothing was confirmed. If it is yours, open its "
            f"SubscribeURL yourself: {address}"
        )
    if kind != "Notification":
        _refuse("SNS's Type Notification", kind)
    return _load(_text(envelope.get("Message"), "Message", MAX_BYTES))


def _from_event_bridge(event: dict[str, Any]) -> list[ObjectChange]:
    if event["detail-type"] != "Object Created":
        return []
    detail = _object(event.get("detail"), "detail")
    return [_change(detail, _text(_object(detail.get("object"), "object").get("key"), "key", MAX_BYTES))]


def _from_records(records: object) -> list[ObjectChange]:
    if not isinstance(records, list) or len(records) > MAX_RECORDS:
        _refuse(f"a list of at most {MAX_RECORDS} Records", records)
    changes = []
    for record in records:
        name = _text(_object(record, "record").get("eventName"), "eventName")
        if name.removeprefix("s3:").startswith(_CREATED):
            facts = _object(record.get("s3"), "s3")
            quoted = _text(_object(facts.get("object"), "object").get("key"), "key", MAX_BYTES)
            changes.append(_change(facts, unquote_plus(quoted)))
    return changes


def _change(facts: dict[str, Any], key: str) -> ObjectChange:
    return ObjectChange(
        bucket=_text(_object(facts.get("bucket"), "bucket").get("name"), "bucket name", _MAX_BUCKET),
        key=key,
    )


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"a JSON object as {what}", value)
    return value


def _text(value: object, what: str, limit: int = _MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > limit:
        _refuse(f"a text of at most {limit} characters as {what}", value)
    return value


def _refuse(expected: str, found: object) -> NoReturn:
    fix = "Send the event notifications of MinIO, S3, SNS or EventBridge (docs/automation.md)."
    raise NotificationError(expected_found_fix(f"{expected} in the notification", safe_repr(found), fix))
