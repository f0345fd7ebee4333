"""Model `predict` is published when its files change, and loaded until Triton serves it."""

import json
import os
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any

import httpx
import pytest

from infra import publish_predict, services
from infra.command_errors import StackError
from infra.stack_settings import StackSettings


class Store:
    """What `predict` needs of an S3 client, in memory."""

    class exceptions:  # noqa: N801  # boto3's own name
        NoSuchKey = KeyError

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get_paginator(self, _: str) -> "Store":
        return self

    def paginate(self, **_: str) -> Iterator[dict[str, Any]]:
        yield {"Contents": [{"Key": key} for key in self.objects]}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: ARG002, N803
        self.objects[Key] = Body

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, BytesIO]:  # noqa: ARG002, N803
        return {"Body": BytesIO(self.objects[Key])}

    def delete_object(self, *, Bucket: str, Key: str) -> None:  # noqa: ARG002, N803
        del self.objects[Key]

    @property
    def config(self) -> str:
        return self.objects["predict/config.pbtxt"].decode()

    @property
    def versions(self) -> set[str]:
        return {key.split("/")[1] for key in self.objects if key.endswith(".py")}


class Triton(BaseHTTPRequestHandler):
    """Serves what a load has found in `store`, where loads do not fail."""

    store: Store
    version, digest = "0", ""
    port, loads, fails = 0, 0, False

    def do_GET(self) -> None:
        if self.path.endswith("/ready"):
            return self._say(200 if type(self).digest else 400, "")
        policy = {"specific": {"versions": [type(self).version]}}
        digest = {"digest": {"string_value": type(self).digest}}
        return self._say(200, json.dumps({"parameters": digest, "version_policy": policy}))

    def do_POST(self) -> None:
        if type(self).fails:
            return self._say(400, '{"error": "out of luck"}')
        type(self).loads += 1
        type(self).version = re.findall(r"versions: (\d+)", self.store.config)[0]
        type(self).digest = re.findall(r'"digest" value { string_value: "(\w+)"', self.store.config)[0]
        return self._say(200, "")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def triton() -> Iterator[type[Triton]]:
    class Handler(Triton):
        store = Store()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    Handler.port = server.server_port
    yield Handler
    server.shutdown()
    server.server_close()


def test_a_load_that_failed_is_tried_again_and_old_files_go_after_it(triton: type[Triton]) -> None:
    store: Any = triton.store
    settings = StackSettings(triton_http_port=triton.port)
    assert publish_predict.publish(store)
    assert publish_predict.ensure_served(settings, store)
    assert not publish_predict.ensure_served(settings, store)
    assert triton.loads == 1

    store.objects["predict/config.pbtxt"] = b"written by another release"
    triton.fails = True
    assert publish_predict.publish(store)
    with pytest.raises(StackError, match="out of luck"):
        publish_predict.ensure_served(settings, store)
    assert store.versions == {"1", "2"}

    triton.fails = False
    assert not publish_predict.publish(store)
    assert publish_predict.ensure_served(settings, store)
    assert store.versions == {"2"}


def test_each_of_several_tritons_loads_it_before_old_files_go(triton: type[Triton]) -> None:
    class Another(triton):  # type: ignore[misc, valid-type]
        version, digest, loads = "0", "", 0

    store: Any = triton.store
    server = ThreadingHTTPServer(("127.0.0.1", 0), Another)
    Thread(target=server.serve_forever, daemon=True).start()
    targets = f"a:1/127.0.0.1:{triton.port},b:1/127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_TARGETS", targets)
        settings = StackSettings()
        publish_predict.publish(store)
        assert publish_predict.ensure_served(settings, store)
        store.objects["predict/config.pbtxt"] = b"written by another release"
        publish_predict.publish(store)
        Another.fails = True
        with pytest.raises(StackError, match="out of luck"):
            publish_predict.ensure_served(settings, store)
        assert store.versions == {"1", "2"}
        Another.fails = False
        assert publish_predict.ensure_served(settings, store)
    server.shutdown()
    server.server_close()
    assert (triton.loads, Another.loads, store.versions) == (2, 2, {"2"})


def test_the_page_is_not_well_without_predict(triton: type[Triton]) -> None:
    settings = StackSettings(triton_http_port=triton.port, live_port=triton.port)
    check = services.front_page(settings).check
    with pytest.raises(httpx.HTTPStatusError, match="models/predict/ready"):
        check()
    triton.digest = "any"
    check()


def test_two_hosts_do_not_publish_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = Store()
    for cores, instances in ((1, 4), (6, 6), (200, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert publish_predict.publish(store) is (cores == 1)
        assert publish_predict._instances() == instances
    assert "count: 4 " in store.config
