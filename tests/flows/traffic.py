"""Clients of every kind that ask while rollouts go on, held against the champion of the moment."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple, Self

import numpy as np
import tritonclient.grpc as triton
from mlflow import MlflowClient
from tritonclient.utils import InferenceServerException

from infra.demo_data import CLASSES, draw_image
from tasks.settings import Settings
from tests.clients import Clients
from tests.flows.registered import SIZE

TOLERANCE_S = 1.0
WATCHED_EVERY_S = 0.2


class Answer(NamedTuple):
    """What a client got: the version that answered, or a fault; `began` and `ended` by the clock of this process."""

    kind: str
    began: float
    ended: float
    version: int
    fault: str = ""


class Traffic(Clients):
    """Clients, each `pause` seconds after its last answer, `count` of each kind.

    Some ask Triton itself and name no version, some ask `predict` and name none, some look up in Triton's config who is
    champion and name that version, and do so once more where it has gone in between. A client tries again for
    `patience` seconds where Triton is away. Who was champion when is what the alias in MLflow said.
    """

    def __init__(self, model_name: str, count: int = 2, pause: float = 0.1, patience: float = 0.0) -> None:
        self.answers = list[Answer]()
        self._name, self._pause, self._patience = model_name, pause, patience
        self._jpeg = draw_image(np.random.default_rng(3), CLASSES)[0]
        kinds: dict[str, Callable[[Any], int]] = {
            "unnamed": self._unnamed,
            "predict": self._predict,
            "named": self._named,
        }
        self._kinds, self._lock = itertools.cycle(kinds.items()), threading.Lock()
        self._champions = [(0.0, self._champion())]
        self._watching = threading.Thread(target=self._watch)
        super().__init__(count * len(kinds))

    def __enter__(self) -> Self:
        self._watching.start()
        return super().__enter__()

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        self._watching.join()

    @property
    def failures(self) -> list[str]:
        """What went wrong."""
        return [f"{answer.kind}: {answer.fault}" for answer in self.answers if answer.fault]

    @property
    def wrong(self) -> list[Answer]:
        """Answers of a version that was not champion within a second of them."""
        return [answer for answer in self.answers if not answer.fault and not self._was_champion(answer)]

    @property
    def versions(self) -> set[str]:
        """All that answered."""
        return {str(answer.version) for answer in self.answers if not answer.fault}

    def only_since(self, version: int) -> float:
        """When the last request was sent that another version answered, of those that named none."""
        others = [answer.began for answer in self.answers if answer.kind != "named" and answer.version != version]
        return max(others, default=0.0)

    def run(self) -> None:
        """Ask again and again."""
        with self._lock:
            kind, ask = next(self._kinds)
        with triton.InferenceServerClient(Settings().triton_grpc_url) as client:
            while not self.stop.wait(self._pause):
                self.answers.append(self._patiently(kind, ask, client))

    def _patiently(self, kind: str, ask: Callable[[Any], int], client: triton.InferenceServerClient) -> Answer:
        until = time.monotonic() + self._patience
        while True:
            began = time.monotonic()
            try:
                return Answer(kind, began, version=ask(client), ended=time.monotonic())
            except (InferenceServerException, OSError, HTTPException, LookupError) as error:
                if time.monotonic() >= until:
                    return Answer(kind, began, time.monotonic(), 0, repr(error))
            time.sleep(0.2)

    def _unnamed(self, client: triton.InferenceServerClient, version: str = "") -> int:
        square = triton.InferInput("images", [1, SIZE, SIZE, 3], "UINT8")
        square.set_data_from_numpy(np.full((1, SIZE, SIZE, 3), 90, np.uint8))
        answer = client.infer(self._name, [square], version, client_timeout=30)
        return int(answer.get_response().model_version)

    def _named(self, client: triton.InferenceServerClient) -> int:
        try:
            return self._unnamed(client, self._served(client))
        except InferenceServerException:
            return self._unnamed(client, self._served(client))

    def _served(self, client: triton.InferenceServerClient) -> str:
        config = client.get_model_config(self._name, as_json=True, client_timeout=30)["config"]
        return str(config["parameters"]["champion"]["string_value"])

    def _predict(self, _: triton.InferenceServerClient) -> int:
        connection = HTTPConnection(Settings().triton_http_url, timeout=60)
        headers = {"Inference-Header-Content-Length": "0", "model": self._name}
        try:
            connection.request("POST", "/v2/models/predict/infer", self._jpeg, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise HTTPException(body.decode(errors="replace"))
        head = int(answer.getheader("Inference-Header-Content-Length", "0"))
        return int(json.loads(body[head + 4 :])["version"])

    def _watch(self) -> None:
        while not self.stop.wait(WATCHED_EVERY_S):
            asked, champion = time.monotonic(), self._champion()
            if champion != self._champions[-1][1]:
                self._champions.append((asked, champion))

    def _champion(self) -> int:
        return int(MlflowClient().get_registered_model(self._name).aliases.get("champion", 0))

    def _was_champion(self, answer: Answer) -> bool:
        ends = [since for since, _ in self._champions[1:]] + [float("inf")]
        return any(
            champion == answer.version and since <= answer.ended + TOLERANCE_S and until >= answer.began - TOLERANCE_S
            for (since, champion), until in zip(self._champions, ends, strict=True)
        )
