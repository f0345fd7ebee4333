"""The server of Label Studio, by its API: a project for each round, found again by the id of its flow run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.review.answers import ReviewTask
from tasks.review.label_studio_format import (
    IMAGE,
    WHY,
    LabelStudioAnswers,
    labelling_configuration,
    to_results,
    to_task,
)
from tasks.review.pictures import Shown
from tasks.review.rounds import Round, RoundImage, to_shapes
from tasks.settings import Settings

ENTRY = "entry"  # of the data of a task: the image that it is about
TIMEOUT_S = 60.0
_PAGE = 100
_SERVER_ERROR = 500
_NO_KEY = "LABEL_STUDIO_API_KEY has to be a legacy token of a user there."
T = TypeVar("T")


class LabelStudioError(StudioError):
    """Label Studio is not there, or refuses."""


class LabelStudioUnavailableError(LabelStudioError):
    """Label Studio does not answer."""

    transient = True


class LabelStudioTool(LabelStudioAnswers):
    """Review in Label Studio; every method raises LabelStudioError, or its unavailable kind."""

    advice = "Correct each image and submit it, also where nothing is to be changed, or skip it."

    def show(self, run: str, description: str, review: Round, shown: Shown, folder: Path) -> str:  # noqa: ARG002
        """Return where people go from one image of a project to the next; its list has no button to skip one."""
        configuration = labelling_configuration(review)
        with LabelStudio(Settings()) as server:
            project = server.ensure_project(run, description, configuration, self.advice)
            present = {task.entry for task in server.tasks(project)}
            model = f"{review.model_name} version {review.model_version}"
            for image in review.images:
                if image.entry not in present:
                    results = to_results(to_shapes(review.task, image), image.width, image.height)
                    server.add_image(project, image, shown(image.entry), results, model)
            return f"{server.address}/projects/{project}/data?labeling=1"

    def read(self, run: str, review: Round) -> list[ReviewTask]:  # noqa: ARG002
        """Return the images of the project of a run; none if there is no such project."""
        with LabelStudio(Settings()) as server:
            project = server.find_project(run)
            return [] if project is None else list(server.tasks(project))

    def is_open(self, run: str, timeout_s: float) -> bool:
        """Return whether an image waits for a person; a project that was deleted is made anew."""
        with LabelStudio(Settings(), timeout_s) as server:
            project = server.find_project(run)
            return project is not None and server.has_open_tasks(project)


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

    def find_project(self, run: str) -> int | None:
        """Return the project of a flow run; None if there is none."""
        named = {"title": _title(run), "include": "id,title"}
        return self._ask(
            lambda answer: next((int(each["id"]) for each in answer["results"] if each["title"] == _title(run)), None),
            *("GET", "/api/projects"),
            params=named,
        )

    def ensure_project(self, run: str, description: str, configuration: str, advice: str) -> int:
        """Return the project of a flow run; if there is none, it is made with this labelling interface and advice."""
        known = self.find_project(run)
        if known is not None:
            return known
        wanted = {
            "title": _title(run),
            "description": description,
            "expert_instruction": advice,
            "show_instruction": True,
            "label_config": configuration,
            "show_collab_predictions": True,  # an annotation begins with the suggestions
            "maximum_annotations": 1,
            "enable_empty_annotation": True,  # that nothing is there is an answer, too
        }
        return self._ask(lambda answer: int(answer["id"]), "POST", "/api/projects", json=wanted)

    def add_image(
        self, project: int, image: RoundImage, file: tuple[str, bytes], results: Sequence[Mapping[str, Any]], model: str
    ) -> None:
        """Add an image of the round with the suggestions of a model; `file` is its name and bytes."""
        into = "POST", f"/api/projects/{project}/import"
        alone = {"commit_to_project": "false"}  # as a file, without a task of its own
        upload = self._ask(lambda answer: int(answer["file_upload_ids"][0]), *into, params=alone, files={"file": file})
        path = self._ask(lambda answer: str(answer["file"]), "GET", f"/api/import/file-upload/{upload}")
        score = max((each["score"] for each in results), default=0.0)
        task = {
            "data": {IMAGE: f"/data/{path}", ENTRY: image.entry, WHY: image.reason},
            "predictions": [{"model_version": model, "score": score, "result": list(results)}],
        }
        self._ask(lambda _: None, *into, json=[task])

    def tasks(self, project: int) -> Iterator[ReviewTask]:
        """Yield the images of a project."""
        return self._pages(_to_review_task, project, fields="all")

    def has_open_tasks(self, project: int) -> bool:
        """Return whether an image waits for a person."""
        if self._ask(_has_fewer_answers, "GET", f"/api/projects/{project}"):
            return True
        # An image may count twice: skipped, and submitted after that.
        return any(self._pages(_is_open, project, fields="task_only"))

    def _pages(self, read: Callable[[Any], T], project: int, fields: str) -> Iterator[T]:
        page, seen = 1, 0
        while True:
            params = {"project": project, "page": page, "page_size": _PAGE, "fields": fields}
            tasks, total = self._ask(
                lambda answer: (list(map(read, answer["tasks"])), int(answer["total"])),
                "GET",
                "/api/tasks",
                params=params,
            )
            yield from tasks
            seen += len(tasks)
            page += 1
            if not tasks or seen >= total:
                return

    def _ask(self, read: Callable[[Any], T], method: str, path: str, **request: Any) -> T:  # noqa: ANN401 - of httpx
        """Return what `read` takes from the JSON of an answer."""
        try:
            answer = self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise LabelStudioUnavailableError(
                f"Expected an answer of Label Studio at {self.address}, found {error!r}. Start it, or correct "
                "LABEL_STUDIO_URL."
            ) from error
        found = f"{answer.status_code} of {method} {path}: {safe_repr(answer.text, 300)}"
        if answer.status_code >= _SERVER_ERROR:
            raise LabelStudioUnavailableError(expected_found_fix("an answer of Label Studio", found, "See its log."))
        if not answer.is_success:
            fix = _NO_KEY if answer.status_code == httpx.codes.UNAUTHORIZED else "Its log says more."
            raise LabelStudioError(expected_found_fix("that Label Studio does what it is asked", found, fix))
        try:
            return read(answer.json())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            fix = "LABEL_STUDIO_URL has to name a server of Label Studio 1.23 or one like it."
            raise LabelStudioError(expected_found_fix("an answer of Label Studio", found, fix)) from error


def _to_review_task(task: Any) -> ReviewTask:  # noqa: ANN401 - JSON
    given = [each for each in task["annotations"] if not each.get("was_cancelled")]
    skipped = len(given) < len(task["annotations"])
    return to_task(str(task["data"].get(ENTRY)), given, skipped=skipped)


def _has_fewer_answers(project: Any) -> bool:  # noqa: ANN401 - JSON
    answered = int(project["finished_task_number"]) + int(project["skipped_annotations_number"])
    return answered < int(project["task_number"])


def _is_open(task: Any) -> bool:  # noqa: ANN401 - JSON
    return not (task["total_annotations"] or task["cancelled_annotations"])


def _title(run: str) -> str:
    return f"review {run}"  # of at most 50 characters
