"""The server of Label Studio, by its API: a project for each round, found again by the id of its flow run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import httpx

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.review.answers import ReviewTask
from tasks.review.label_studio_format import IMAGE
from tasks.settings import Settings

ENTRY = "entry"  # of the data of a task: the image that it is about
TIMEOUT_S = 60.0
_PAGE = 100
_SERVER_ERROR = 500


class LabelStudioError(StudioError):
    """Label Studio is not there, or refuses."""


class LabelStudioUnavailableError(LabelStudioError):
    """Label Studio does not answer."""

    transient = True


class LabelStudio:
    """A client, to be closed at the end of a `with`; every method raises LabelStudioError, or its unavailable kind."""

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S) -> None:
        if not settings.label_studio_url:
            fix = "Run `make up REVIEW=1`, or name one elsewhere by LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
            raise LabelStudioError(expected_found_fix("the address of Label Studio", "none", fix))
        self.address = settings.label_studio_url.rstrip("/")
        headers = {"Authorization": f"Token {settings.label_studio_api_key.get_secret_value()}"}
        self._client = httpx.Client(base_url=self.address, headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def project_page(self, project: int) -> str:
        """Return where people go from one image of a project to the next; its list has no button to skip one."""
        return f"{self.address}/projects/{project}/data?labeling=1"

    def find_project(self, run: str) -> int | None:
        """Return the project of a flow run; None if there is none."""
        found = self._ask("GET", "/api/projects", params={"title": _title(run), "include": "id,title"})
        return next((int(each["id"]) for each in found["results"] if each["title"] == _title(run)), None)

    def ensure_project(self, run: str, description: str, configuration: str) -> int:
        """Return the project of a flow run, which is made with this labelling interface if there is none."""
        known = self.find_project(run)
        if known is not None:
            return known
        made = self._ask(
            "POST",
            "/api/projects",
            json={
                "title": _title(run),
                "description": description,
                "label_config": configuration,
                "show_collab_predictions": True,  # an annotation begins with the suggestions
                "maximum_annotations": 1,
                "enable_empty_annotation": True,  # that nothing is there is an answer, too
            },
        )
        return int(made["id"])

    def add_image(
        self, project: int, entry: str, file: tuple[str, bytes], results: Sequence[Mapping[str, Any]], model: str
    ) -> None:
        """Add an image with the suggestions of a model, under its name in the round; `file` is its name and bytes."""
        kept = {"commit_to_project": "false"}  # as a file alone, without a task of its own
        uploaded = self._ask("POST", f"/api/projects/{project}/import", params=kept, files={"file": file})
        (upload,) = uploaded["file_upload_ids"]
        path = self._ask("GET", f"/api/import/file-upload/{int(upload)}")["file"]
        score = max((each["score"] for each in results), default=0.0)
        task = {
            "data": {IMAGE: f"/data/{path}", ENTRY: entry},
            "predictions": [{"model_version": model, "score": score, "result": list(results)}],
        }
        self._ask("POST", f"/api/projects/{project}/import", json=[task])

    def tasks(self, project: int) -> Iterator[ReviewTask]:
        """Yield the images of a project."""
        for task in self._pages(project, fields="all"):
            given = [each for each in task["annotations"] if not each.get("was_cancelled")]
            yield ReviewTask(
                entry=str(task["data"].get(ENTRY)), annotations=given, skipped=len(task["annotations"]) - len(given)
            )

    def has_open_tasks(self, project: int) -> bool:
        """Return whether an image waits for a person."""
        counts = self._ask("GET", f"/api/projects/{project}")
        if counts["finished_task_number"] + counts["skipped_annotations_number"] < counts["task_number"]:
            return True
        pages = self._pages(project, fields="task_only")  # an image may count twice: skipped, and submitted after that
        return any(not (each["total_annotations"] or each["cancelled_annotations"]) for each in pages)

    def _pages(self, project: int, fields: str) -> Iterator[Mapping[str, Any]]:
        page, seen = 1, 0
        while True:
            params = {"project": project, "page": page, "page_size": _PAGE, "fields": fields}
            answer = self._ask("GET", "/api/tasks", params=params)
            yield from answer["tasks"]
            seen += len(answer["tasks"])
            page += 1
            if not answer["tasks"] or seen >= answer["total"]:
                return

    def _ask(self, method: str, path: str, **request: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            answer = self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise LabelStudioUnavailableError(
                f"Expected an answer of Label Studio at {self.address}, found {error!r}. Start it, or correct "
                "LABEL_STUDIO_URL."
            ) from error
        if answer.is_success:
            return _read(answer)
        found = f"{answer.status_code} of {method} {path}: {safe_repr(answer.text, 300)}"
        if answer.status_code >= _SERVER_ERROR:
            raise LabelStudioUnavailableError(
                expected_found_fix("an answer of Label Studio", found, "Look at its log.")
            )
        fix = "LABEL_STUDIO_API_KEY has to be a legacy token of a user there."
        raise LabelStudioError(expected_found_fix("that Label Studio does what it is asked", found, fix))


def _read(answer: httpx.Response) -> Any:  # noqa: ANN401 - JSON
    try:
        return answer.json()
    except ValueError as error:
        fix = "LABEL_STUDIO_URL has to name a server of Label Studio."
        raise LabelStudioError(expected_found_fix("JSON", safe_repr(answer.text, 100), fix)) from error


def _title(run: str) -> str:
    return f"review {run}"  # of at most 50 characters
