"""Model `predict` in the Triton repository: published from model_repository/predict, anew when its files change.

Triton is asked what it serves: a load that failed or was cut short is tried again by the next `make up`.
"""

import hashlib
import os
import re
from typing import TYPE_CHECKING

import httpx

from infra.command_errors import StackError
from infra.stack_settings import ROOT, StackSettings
from infra.triton import BUCKET, KEY_HEADER
from tasks.serving.triton_config import config_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "predict"
SOURCE = ROOT / "model_repository" / NAME
LOAD_SECONDS = 60
MIN_INSTANCES, MAX_INSTANCES = 4, 16
_ASK_SECONDS = 5
# In the config.pbtxt that `publish` writes.
_DIGEST = re.compile(r'key: "digest" value \{ string_value: "(\w+)" \}')
_VERSION = re.compile(r"versions: (\d+)")


def publish(client: "S3Client") -> bool:
    """Write the model as the next version where the repository has not just these files; say whether it had not.

    config.pbtxt comes last and names the one version to serve, so what Triton reads is whole at any time. The files of
    the version before stay until `ensure_served` has seen its successor.
    """
    files = {path.name: path.read_bytes() for path in sorted(SOURCE.glob("*.py"))}
    config = (SOURCE / "config.pbtxt").read_text()
    # Without the number of instances: two hosts with one repository would publish in turn.
    digest = hashlib.sha256(repr((config, files)).encode()).hexdigest()
    if _field(_DIGEST, _published(client)) == digest:
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
    """An instance waits while the model that it asks works, so it takes more of them than cores to keep those busy."""
    return min(max(MIN_INSTANCES, len(os.sched_getaffinity(0))), MAX_INSTANCES)


def _present(client: "S3Client") -> dict[str, int]:
    """The version of each file in the repository, by its key."""
    return {
        item["Key"]: int(version)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{NAME}/")
        for item in page.get("Contents", [])
        if (version := item["Key"].split("/")[1]).isdecimal()
    }


def _field(pattern: re.Pattern[str], config: str) -> str:
    found = pattern.search(config)
    return found[1] if found else ""


def _published(client: "S3Client") -> str:
    try:
        return client.get_object(Bucket=BUCKET, Key=f"{NAME}/config.pbtxt")["Body"].read().decode()
    except client.exceptions.NoSuchKey:
        return ""


def ensure_served(settings: StackSettings, client: "S3Client") -> bool:
    """Have the running Triton serve what is published, then delete older versions; say whether it had to be loaded.

    Requests go on being answered. Raises StackError.
    """
    published, loaded = _published(client), False
    if not _serves(settings, published):
        _load(settings)
        loaded = True
        if not _serves(settings, published):
            raise StackError(f"expected Triton to serve the {NAME} that was published, found another: `make up` again")
    newest = int(_field(_VERSION, published))
    for key, version in _present(client).items():
        if version < newest:
            client.delete_object(Bucket=BUCKET, Key=key)
    return loaded


def _serves(settings: StackSettings, published: str) -> bool:
    url = f"http://{settings.environment['TRITON_HTTP_URL']}/v2/models/{NAME}"
    try:
        ready = httpx.get(f"{url}/ready", timeout=_ASK_SECONDS).is_success
        answer = httpx.get(f"{url}/config", timeout=_ASK_SECONDS)
    except httpx.HTTPError as error:
        raise StackError(f"expected Triton at {url} to say what it serves, found {error!r}: see its log") from error
    if not ready or answer.is_error:
        return False
    config = answer.json()
    digest = config.get("parameters", {}).get("digest", {}).get("string_value", "")
    same_version = config_versions(config) == [int(_field(_VERSION, published))]
    return bool(same_version and digest == _field(_DIGEST, published))


def _load(settings: StackSettings) -> None:
    url = f"http://{settings.environment['TRITON_HTTP_URL']}/v2/repository/models/{NAME}/load"
    headers = {KEY_HEADER: settings.triton_key}
    try:
        answer = httpx.post(url, headers=headers, timeout=LOAD_SECONDS)
    except httpx.HTTPError as error:
        raise StackError(f"expected Triton at {url} to load {NAME}, found {error!r}: see its log") from error
    if answer.is_error:
        raise StackError(f"expected Triton to load {NAME}, found {answer.text}: run `make setup`, then `make up`")
