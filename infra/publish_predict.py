"""Model `predict` in the Triton repository: published from model_repository/predict, anew when its files change.

A load that failed or was cut short is tried again by the next `make up`: what counts is what Triton serves.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx
from google.protobuf import json_format, text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig

from infra.command_errors import StackError
from infra.stack_settings import ROOT, StackSettings
from infra.triton import BUCKET, KEY_HEADER
from tasks.serving.servers import resolve
from tasks.serving.triton_config import config_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "predict"
SOURCE = ROOT / "model_repository" / NAME
LOAD_SECONDS = 60
READ_SECONDS = 5
MIN_INSTANCES = 4
MAX_INSTANCES = 16


def publish(client: "S3Client") -> bool:
    """Write the model as the next version unless the repository has these very files; returns whether it was written.

    config.pbtxt comes last and names the one version to serve, so what Triton reads is whole at any time. The files of
    the version before stay until `ensure_served` has seen its successor.
    """
    files = {path.name: path.read_bytes() for path in sorted(SOURCE.glob("*.py"))}
    config = (SOURCE / "config.pbtxt").read_text()
    # Without the number of instances: two hosts with one repository would publish in turn.
    digest = hashlib.sha256(repr((config, files)).encode()).hexdigest()
    if _identity(_read_published_config(client))[1] == digest:
        return False
    number = max(_present(client).values(), default=0) + 1
    for name, content in files.items():
        client.put_object(Bucket=BUCKET, Key=f"{NAME}/{number}/{name}", Body=content)
    config += f"instance_group {{ count: {_instances()} kind: KIND_CPU }}\n"
    config += f"version_policy {{ specific {{ versions: {number} }} }}\n"
    config += f'parameters {{ key: "digest" value {{ string_value: "{digest}" }} }}\n'
    client.put_object(Bucket=BUCKET, Key=f"{NAME}/config.pbtxt", Body=config.encode())
    return True


def _instances() -> int:
    """How many instances keep all cores busy: each waits while the model that it calls works."""
    return min(max(MIN_INSTANCES, len(os.sched_getaffinity(0))), MAX_INSTANCES)


def _present(client: "S3Client") -> dict[str, int]:
    """The version of each file in the repository, by its key."""
    return {
        item["Key"]: int(version)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{NAME}/")
        for item in page.get("Contents", [])
        if (version := item["Key"].split("/")[1]).isdecimal()
    }


def _read_published_config(client: "S3Client") -> dict[str, Any]:
    """The config that `publish` has written; empty if there is none."""
    try:
        text = client.get_object(Bucket=BUCKET, Key=f"{NAME}/config.pbtxt")["Body"].read()
        config = json_format.MessageToDict(text_format.Parse(text, ModelConfig()), preserving_proto_field_name=True)
    except (client.exceptions.NoSuchKey, text_format.ParseError):
        return {}
    return dict(config)


def _identity(config: Mapping[str, Any]) -> tuple[list[int], str]:
    """The versions that a config names, and the digest of their files."""
    return config_versions(config), config.get("parameters", {}).get("digest", {}).get("string_value", "")


def ensure_served(settings: StackSettings, client: "S3Client") -> bool:
    """Have each Triton serve the published version, then delete older ones; returns whether one has loaded it.

    Requests are answered all the time.

    Raises:
        StackError: Triton does not answer, or does not load it.
    """
    published = _identity(_read_published_config(client))
    loaded = [
        _ensure_served_by(server.http, settings.triton_key, published) for server in resolve(settings.triton_targets)
    ]
    for key, version in _present(client).items():
        if version < min(published[0]):
            client.delete_object(Bucket=BUCKET, Key=key)
    return any(loaded)


def _ensure_served_by(address: str, key: str, published: tuple[list[int], str]) -> bool:
    if _serves(address, published):
        return False
    answer = _call(address, "POST", f"repository/models/{NAME}/load", LOAD_SECONDS, {KEY_HEADER: key})
    if answer.is_error:
        raise StackError(f"expected Triton to load {NAME}, found {answer.text}: run `make setup`, then `make up`")
    if not _serves(address, published):
        raise StackError(f"expected Triton to serve the {NAME} that was published, found another: `make up` again")
    return True


def _serves(address: str, published: tuple[list[int], str]) -> bool:
    ready, config = (_call(address, "GET", f"models/{NAME}/{page}", READ_SECONDS) for page in ("ready", "config"))
    return ready.is_success and config.is_success and _identity(config.json()) == published


def _call(
    address: str, method: str, path: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    url = f"http://{address}/v2/{path}"
    try:
        return httpx.request(method, url, headers=headers, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise StackError(f"expected Triton to answer {method} {url}, found {error!r}: see its log") from error
