"""A stand-in of CVAT's server, as none can be had here: it needs Docker. It is no proof that a real one does the same.

Each request is judged by the generated models of CVAT's own SDK, and so is each answer, when the client reads it. What
happens in between is written after CVAT's sources: images are attached in several requests and once only, long work is
a request that is asked about, a task is cut into jobs, an export has two decimals and no deleted frame.
"""

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import Element, SubElement, tostring

from cvat_sdk import models
from cvat_sdk.api_client import Configuration
from cvat_sdk.api_client.model_utils import validate_and_convert_types
from PIL import Image

TOKEN, USER, PASSWORD = "a token", "somebody", "a password"
DATE = "2026-11-30T08:00:00Z"
_ROUTE = re.compile(r"/api/tasks/(?P<id>\d+)(?P<rest>/.*)?")


@dataclass
class Task:
    """What the server knows of a task; `images` are the bytes of its frames, `jobs` the states of its jobs."""

    id: int
    name: str
    labels: list[dict[str, Any]]
    segment_size: int
    uploaded: dict[str, bytes] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    tags: list[dict[str, Any]] = field(default_factory=list)
    shapes: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [Image.open(io.BytesIO(data)).size for data in self.images.values()]

    def finish(self, *jobs: int) -> None:
        """People complete these jobs, or all."""
        for number in jobs or range(len(self.jobs)):
            self.jobs[number] = "completed"


Answer = tuple[int, Any]
Edit = Callable[[str, str, Answer], Answer]


class CvatStandIn:
    """The state of the server, and its answers."""

    def __init__(self) -> None:
        self.address = ""
        self.tasks: dict[int, Task] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.edit: Edit = lambda _method, _path, answer: answer  # what a hostile server makes of an answer
        self.work = "finished"  # what becomes of work in the background
        self.sessions = 0

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:  # noqa: PLR0911
        """Return status and JSON, or bytes, of an answer."""
        parts = urlsplit(target)
        path, query = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(f"{method} {path}")
        self.headers.append(headers)
        if path == "/api/auth/login":
            given = json.loads(body)
            judge(given, models.LoginSerializerExRequest)
            self.sessions += 1
            return (200, {"key": "k"}) if given == {"username": USER, "password": PASSWORD} else (400, {"detail": "no"})
        if headers.get("authorization") != f"Bearer {TOKEN}" and "sessionid=s" not in headers.get("cookie", ""):
            return 401, {"detail": "Authentication credentials were not provided."}
        if path == "/api/auth/logout":
            self.sessions -= 1
            return 200, {"detail": "out"}
        if found := _ROUTE.fullmatch(path):
            task = self.tasks.get(int(found["id"]))
            return self._about(task, method, found["rest"] or "", query, headers, body) if task else (404, {})
        if method == "POST" and path == "/api/tasks":
            return 201, self._read(self._create(json.loads(body)))
        listed = self._listed(path, query)
        if listed is not None:
            return 200, {"count": len(listed), "next": None, "previous": None, "results": listed}
        if path.startswith("/api/requests/"):
            return 200, self.requests[path.rpartition("/")[2]]
        return 404, {}

    def _listed(self, path: str, query: dict[str, str]) -> list[dict[str, Any]] | None:
        if path == "/api/tasks":
            return [self._read(task) for task in self.tasks.values() if task.name == query.get("name", task.name)]
        number = int(query.get("task_id", 0))
        if path == "/api/requests":
            return [each for each in self.requests.values() if each["operation"]["task_id"] == number]
        if path == "/api/labels":
            return self.tasks[number].labels
        return self._jobs(self.tasks[number]) if path == "/api/jobs" else None

    def _create(self, wanted: dict[str, Any]) -> Task:
        judge(wanted, models.TaskWriteRequest)
        number = max(self.tasks, default=6) + 1
        labels = [{"id": number * 1000 + at, **label} for at, label in enumerate(wanted["labels"])]
        assert len({label["name"] for label in labels}) == len(labels)
        self.tasks[number] = Task(number, wanted["name"], labels, wanted["segment_size"])
        return self.tasks[number]

    def _read(self, task: Task) -> dict[str, Any]:
        done = task.jobs.count("completed")
        jobs = {"count": len(task.jobs), "completed": done, "validation": 0, "url": ""}
        return {"id": task.id, "name": task.name, "size": len(task.images), "jobs": jobs, "labels": {"url": ""}}

    def _jobs(self, task: Task) -> list[dict[str, Any]]:
        found = []
        for number, state in enumerate(task.jobs):
            start = number * task.segment_size
            stop = min(start + task.segment_size, len(task.images)) - 1
            about = {"id": 100 * task.id + number, "task_id": task.id, "type": "annotation", "stage": "annotation"}
            more = {"issues": {"url": "", "count": 0}, "labels": {"url": ""}}
            found.append({**about, **more, "state": state, "start_frame": start, "stop_frame": stop})
        return found

    def _about(  # noqa: PLR0911
        self, task: Task, method: str, rest: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        match method, rest:
            case "GET", "":
                return 200, self._read(task)
            case "PATCH", "":
                wanted = json.loads(body)
                judge(wanted, models.PatchedTaskWriteRequest)
                task.name = wanted["name"]
                return 200, self._read(task)
            case "DELETE", "":
                del self.tasks[task.id]
                return 204, b""
            case "POST", "/data/":
                return self._attach(task, headers, body)
            case "GET", "/data/meta":
                named = zip(task.images, task.sizes, strict=True)
                frames = [{"name": name, "width": w, "height": h, "related_files": 0} for name, (w, h) in named]
                return 200, {"chunks_updated_date": DATE, "frames": frames, "deleted_frames": sorted(task.deleted)}
            case "DELETE", "/annotations/":
                task.tags, task.shapes = [], []
                return 204, b""
            case "PATCH", "/annotations/":
                return self._draw(task, query, json.loads(body))
            case "POST", "/dataset/export":
                assert query == {"format": "CVAT for images 1.1", "save_images": "False", "location": "local"}
                return self._work(task, "export", f"{self.address}/api/tasks/{task.id}/dataset/download")
            case "GET", "/dataset/download":
                return 200, export(task)
        return 404, {}

    def _attach(self, task: Task, headers: dict[str, str], body: bytes) -> Answer:
        if task.images:
            return 400, "Adding more data is not supported"
        if "upload-multiple" in headers:
            boundary = headers["content-type"].partition("boundary=")[2].encode()
            for part in body.split(b"\r\n--" + boundary):
                head, _, data = part.partition(b"\r\n\r\n")
                if name := re.search(rb'filename="(.+?)"', head):
                    own = name[1].decode().rpartition("/")[2]
                    if own in task.uploaded:
                        return 500, "a file is there already"
                    task.uploaded[own] = data
            return 200, b""
        if "upload-finish" in headers:
            wanted = json.loads(body)
            judge(wanted, models.DataRequest)
            assert wanted["sorting_method"] == "predefined"
            if sorted(wanted["upload_file_order"]) != sorted(task.uploaded):
                return 400, "Uploaded files do not match"
            if self.work == "finished":
                self.attach(task, wanted["upload_file_order"])
            return self._work(task, "create", None)
        return 202, b""

    def attach(self, task: Task, order: list[str]) -> None:
        """Make frames of what was uploaded."""
        task.images = {name: task.uploaded[name] for name in order}
        task.jobs = ["new"] * -(-len(order) // task.segment_size)

    def _draw(self, task: Task, query: dict[str, str], drawn: dict[str, Any]) -> Answer:
        judge(drawn, models.PatchedLabeledDataRequest)
        assert query == {"action": "create"}
        known = {label["id"]: label["type"] for label in task.labels}
        for each in [*drawn["tags"], *drawn["shapes"]]:
            assert known[each["label_id"]] == each.get("type", "tag")
            assert 0 <= each["frame"] < len(task.images)
        task.tags += drawn["tags"]
        task.shapes += drawn["shapes"]
        return 200, {"version": 1, "tags": drawn["tags"], "shapes": drawn["shapes"], "tracks": []}

    def _work(self, task: Task, what: str, result: str | None) -> Answer:
        name = f"action={what}&target=task&id={task.id}"
        operation = {"type": what, "target": "task", "task_id": task.id}
        about = {"id": name, "operation": operation, "created_date": DATE, "message": "\x1b[2J no"}
        self.requests[name.replace("=", "%3D").replace("&", "%26")] = about | {
            "status": self.work,
            "result_url": result,
        }
        return 202, {"rq_id": name}


def judge(given: object, model: type) -> None:
    """Fails if something is not of a model of the SDK."""
    validate_and_convert_types(given, (model,), ["body"], True, True, Configuration())


def export(task: Task) -> bytes:
    """The archive of format CVAT for images 1.1, after `dump_as_cvat_annotation` of CVAT."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("annotations.xml", document(task))
    return file.getvalue()


def document(task: Task) -> bytes:
    """Its only entry if images are left out."""
    names = {label["id"]: label["name"] for label in task.labels}
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    meta = SubElement(SubElement(root, "meta"), "task")
    SubElement(meta, "updated").text = DATE
    for label in task.labels:
        SubElement(SubElement(SubElement(meta, "labels"), "label"), "name").text = label["name"]
    for number, (name, (width, height)) in enumerate(zip(task.images, task.sizes, strict=True)):
        if number in task.deleted:
            continue
        image = SubElement(root, "image", id=str(number), name=name, width=str(width), height=str(height))
        for shape in (each for each in task.shapes if each["frame"] == number):
            _add_shape(image, shape, names[shape["label_id"]])
        for tag in (each for each in task.tags if each["frame"] == number):
            SubElement(image, "tag", label=names[tag["label_id"]], source=tag["source"])
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _add_shape(image: Element, shape: dict[str, Any], label: str) -> None:
    about = {"label": label, "source": shape["source"], "occluded": "0"}
    numbers = [f"{number:.2f}" for number in shape["points"]]
    if shape["type"] == "rectangle":
        turn = {"rotation": f"{shape['rotation']:.2f}"} if shape["rotation"] else {}
        corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), numbers, strict=True))
        SubElement(image, "box", {**about, **corners, **turn, "z_order": "0"})
    else:
        points = ";".join(f"{x},{y}" for x, y in zip(numbers[::2], numbers[1::2], strict=True))
        SubElement(image, shape["type"], {**about, "points": points, "z_order": "0"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    server: "_Server"

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        stand_in = self.server.stand_in
        try:
            given = stand_in.answer(self.command, self.path, headers, body)
        except Exception as error:  # noqa: BLE001 - it is told, so that a test fails by it
            given = 418, f"{type(error).__name__}: {error}"
        status, value = stand_in.edit(self.command, urlsplit(self.path).path, given)
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("content-type", "application/vnd.cvat+json")
        if self.path == "/api/auth/login":
            self.send_header("set-cookie", "sessionid=s; Path=/")
            self.send_header("set-cookie", "csrftoken=c; Path=/")
        if status in {301, 302}:
            self.send_header("location", str(value))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _respond  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, stand_in: CvatStandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = stand_in


@contextmanager
def run_cvat() -> Iterator[CvatStandIn]:
    """Runs the server while the block lasts."""
    stand_in = CvatStandIn()
    server = _Server(stand_in)
    stand_in.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
