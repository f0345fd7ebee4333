"""The server of CVAT, by its SDK: a task for each round, found again by the id of its flow run.

The name of a task says that it is being prepared until each image and each suggestion is in it. Images can be attached
to a task only once, so one that was left before they were there is deleted and made anew.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import urllib3
from cvat_sdk import Client, Config
from cvat_sdk.api_client.rest import RESTClientObject
from cvat_sdk.core.client import AccessTokenCredentials, PasswordCredentials
from cvat_sdk.core.exceptions import CvatSdkException
from cvat_sdk.core.proxies.types import Location
from cvat_sdk.exceptions import ApiException, OpenApiException

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.review.answers import ReviewTask
from tasks.review.cvat_format import DOCUMENT, FIX, name_files, read_export, to_annotations, to_document, to_labels
from tasks.review.pictures import Shown
from tasks.review.rounds import Round, to_shapes
from tasks.settings import Settings

TIMEOUT_S = 60.0
JOB_IMAGES = 50  # what one person takes, and submits, at once
MAX_ANSWER_BYTES = 2**28
_UPLOAD_S = 600.0  # of 100 MB, which the SDK sends at once
_WORK_S = 1800.0  # for which CVAT may prepare images, or an export
_POLL_S = 1.0
_PAGE, _MOST_PAGES = 500, 100
_SENT_IMAGES = 100  # whose suggestions go into one request
_QUALITY = 95  # of what people see; the export holds no image
_FORMAT = "CVAT for images 1.1"
_SERVER_ERROR = 500
_NO_KEY = "CVAT_ACCESS_TOKEN, or CVAT_USERNAME and CVAT_PASSWORD, have to be of a user there who may make tasks."
# What the SDK raises about an answer that it cannot take: it asserts, too.
_ODD_ANSWERS = (OpenApiException, CvatSdkException, AssertionError, ValueError, LookupError, TypeError, AttributeError)


class CvatError(StudioError):
    """CVAT is not there, or refuses."""


class CvatUnavailableError(CvatError):
    """CVAT does not answer."""

    transient = True


@contextmanager
def _checked_answers() -> Iterator[None]:
    """Raise CvatError for answers that are not those of CVAT's API."""
    try:
        yield
    except (*_ODD_ANSWERS, RecursionError) as error:
        raise CvatError(expected_found_fix("an answer of CVAT", safe_repr(str(error), 300), FIX)) from error


class CvatTool:
    """Review in CVAT; every method raises CvatError, its unavailable kind, or CvatExportError."""

    advice = (
        "Correct the images of each job, and finish it, also where nothing is to be changed; delete images that are to "
        "be left out."
    )
    answers_name = "answers.xml"
    import_format = "cvat"

    def show(self, run: str, description: str, review: Round, shown: Shown, folder: Path) -> str:  # noqa: ARG002
        """Return the page of the task of a round, in which each image is once."""
        with Cvat(Settings()) as server:
            return f"{server.address}/tasks/{server.ensure_task(run, review, shown, folder)}"

    def read(self, run: str, review: Round) -> list[ReviewTask]:
        """Return the images of the task of a run; none if there is no such task."""
        with Cvat(Settings()) as server:
            task = server.find_task(run)
            return [] if task is None else server.tasks(task, review)

    def is_open(self, run: str, timeout_s: float) -> bool:
        """Return whether a job waits for a person; a task that was deleted is made anew."""
        with Cvat(Settings(), timeout_s) as server:
            task = server.find_task(run)
            return task is not None and server.has_open_jobs(task)

    def documents(self, review: Round, exports: Mapping[str, str]) -> dict[str, bytes]:
        """Return what was submitted as an export of a task."""
        return {DOCUMENT: to_document(review.class_names, exports.items())}


class Cvat:
    """A client, to be used in a `with`; every method raises CvatError, or its unavailable kind."""

    @_checked_answers()
    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S) -> None:
        if not settings.cvat_url:
            fix = "Name one by CVAT_URL, with CVAT_ACCESS_TOKEN, or CVAT_USERNAME and CVAT_PASSWORD."
            raise CvatError(expected_found_fix("the address of CVAT", "none", fix))
        self._client = _LimitedClient(settings.cvat_url, timeout_s)
        self._client.organization_slug = settings.cvat_organization or None
        self.address = self._client.api_map.host
        token = settings.cvat_access_token.get_secret_value()
        password = settings.cvat_password.get_secret_value()
        self._credentials = (
            AccessTokenCredentials(token) if token else PasswordCredentials(settings.cvat_username, password)
        )

    @_checked_answers()
    def __enter__(self) -> Self:
        try:
            self._client.login(self._credentials)
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(CvatError), _checked_answers():
            self._client.logout()  # a password has opened a session
        self._client.close()

    @_checked_answers()
    def find_task(self, run: str) -> int | None:
        """Return the task of a flow run; None if there is none in which everything is."""
        return self._find(_title(run))

    @_checked_answers()
    def ensure_task(self, run: str, review: Round, shown: Shown, folder: Path) -> int:
        """Return the task of the round of a flow run, which is made if there is none; `folder` is for its images.

        Raises:
            CvatError: As every method does.
            ClassNameError: A class has no name, or one that CVAT would change.
        """
        labels = to_labels(review.task, review.class_names)
        known = self._find(_title(run))
        if known is not None:
            return known
        task = self._find(_draft_title(run))
        if task is not None and not self._has_images(task):
            self._client.api_client.tasks_api.destroy(task)
            task = None
        if task is None:
            wanted = {"name": _draft_title(run), "labels": labels, "segment_size": JOB_IMAGES}
            made = self._client.tasks.create(wanted)
            task = int(made.id)
            files = [folder / name for name in name_files(review)]
            for file, image in zip(files, review.images, strict=True):
                file.write_bytes(shown(image.entry)[1])
            made.upload_data(files, params={"image_quality": _QUALITY, "sorting_method": "predefined"})
        self._suggest(task, review)
        self._client.api_client.tasks_api.partial_update(task, patched_task_write_request={"name": _title(run)})
        return task

    @_checked_answers()
    def tasks(self, task: int, review: Round) -> list[ReviewTask]:
        """Return the images of the task of a round: those of a completed job were submitted, or deleted.

        Raises:
            CvatError: As every method does, or an image is not in the export.
            CvatExportError: The export cannot be read.
        """
        entries = {name: image.entry for name, image in zip(name_files(review), review.images, strict=True)}
        frames, deleted = self._frames(task)
        finished = self._finished_frames(task, len(frames))
        drawn = self._export(task) if finished - deleted else {}
        found = []
        for number, name in enumerate(frames):
            if entry := entries.get(name):
                given = number in finished and number not in deleted
                if given and name not in drawn:
                    expected = f"image {safe_repr(name)} in the export of task {task}"
                    raise CvatError(expected_found_fix(expected, "none", "Retry this run."))
                submitted = drawn[name] if given else None
                found.append(ReviewTask(entry=entry, submitted=submitted, skipped=number in finished & deleted))
        return found

    @_checked_answers()
    def has_open_jobs(self, task: int) -> bool:
        """Return whether a job waits for a person."""
        jobs = self._jobs(task)
        return not (jobs and all(map(_is_completed, jobs)))

    def _find(self, title: str) -> int | None:
        page, _ = self._client.api_client.tasks_api.list(name=title, sort="id", page_size=_PAGE)
        return next((int(each.id) for each in page.results if each.name == title), None)

    def _has_images(self, task: int) -> bool:
        """Return whether CVAT has made the images of a task; if it is about to, wait for it."""
        active = self._pages(self._client.api_client.requests_api.list, task_id=task, action="create", target="task")
        for each in active:
            if each.status.value in {"queued", "started"}:
                self._client.wait_for_completion(each.id)
        found, _ = self._client.api_client.tasks_api.retrieve(task)
        return bool(getattr(found, "size", 0))

    def _suggest(self, task: int, review: Round) -> None:
        """Put the suggestions into a task, instead of whatever is drawn in it."""
        api = self._client.api_client.tasks_api
        images = dict(zip(name_files(review), review.images, strict=True))
        meta, _ = api.retrieve_data_meta(task)
        sizes = [(each.name, (each.width, each.height)) for each in meta.frames]
        wanted = {name: (image.width, image.height) for name, image in images.items()}
        if len(sizes) != len(wanted) or dict(sizes) != wanted:
            odd = sorted(set(sizes) ^ set(wanted.items()), key=str)[:3]
            expected = f"the {len(wanted):,} images of this round in task {task}, in their sizes"
            fix = "See the log of CVAT, delete the task there, then retry this run; or review in another tool."
            raise CvatError(expected_found_fix(expected, f"{len(sizes):,}, different in {safe_repr(odd, 300)}", fix))
        listed = self._pages(self._client.api_client.labels_api.list, task_id=task)
        label_ids = {each.name: int(each.id) for each in listed}
        if lacking := [name for name in review.class_names if name not in label_ids]:
            expected = f"labels {safe_repr(lacking, 300)} in task {task}"
            raise CvatError(expected_found_fix(expected, "none", "Delete the task in CVAT, then retry this run."))
        api.destroy_annotations(task)
        for start in range(0, len(sizes), _SENT_IMAGES):
            sent: dict[str, Any] = {"version": 0, "tags": [], "shapes": [], "tracks": []}
            for number, (name, _) in enumerate(sizes[start : start + _SENT_IMAGES], start):
                for kind, made in to_annotations(to_shapes(review.task, images[name]), number, label_ids).items():
                    sent[kind] += made
            api.partial_update_annotations("create", task, patched_labeled_data_request=sent)

    def _frames(self, task: int) -> tuple[list[str], frozenset[int]]:
        """Return the names of the images of a task, and the numbers of those that people have deleted."""
        meta, _ = self._client.api_client.tasks_api.retrieve_data_meta(task)
        return [each.name for each in meta.frames], frozenset(meta.deleted_frames)

    def _finished_frames(self, task: int, frames: int) -> frozenset[int]:
        """Return the numbers of the images in completed jobs; the task has so many `frames`."""
        found: set[int] = set()
        for job in filter(_is_completed, self._jobs(task)):
            if not 0 <= job.start_frame <= job.stop_frame < frames:
                expected = f"images 0 to {frames - 1} in job {job.id}"
                raise CvatError(expected_found_fix(expected, f"{job.start_frame} to {job.stop_frame}", FIX))
            found.update(range(job.start_frame, job.stop_frame + 1))
        return frozenset(found)

    def _jobs(self, task: int) -> list[Any]:
        """Return the jobs in which people annotate: not those that others are compared with."""
        jobs = self._pages(self._client.api_client.jobs_api.list, task_id=task)
        return [job for job in jobs if str(job.type) == "annotation"]

    def _export(self, task: int) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="cvat-") as folder:
            path = Path(folder) / "export.zip"
            found = self._client.tasks.retrieve(task)
            found.export_dataset(_FORMAT, path, include_images=False, location=Location.LOCAL)
            return read_export(path)

    @staticmethod
    def _pages(ask: Callable[..., Any], **asked: Any) -> Iterator[Any]:  # noqa: ANN401 - models of the SDK
        """Yield the entries of all pages."""
        for number in range(1, _MOST_PAGES + 1):
            page, _ = ask(**asked, page=number, page_size=_PAGE)
            yield from page.results
            if not (page.results and page.next):
                return
        raise CvatError(expected_found_fix(f"at most {_MOST_PAGES} pages", f"more about {asked}", FIX))


class _LimitedClient(Client):  # type: ignore[misc] # the library has no types
    """The client of the SDK, which never waits for ever and keeps its requests to one server."""

    def __init__(self, address: str, timeout_s: float) -> None:
        super().__init__(address, config=Config(status_check_period=_POLL_S), check_server_version=False)
        self.api_client.rest_client = _LimitedConnection(self.api_client.configuration, timeout_s)

    def close(self) -> None:
        super().close()
        self.api_client.rest_client.pool_manager.clear()

    def wait_for_completion(self, rq_id: str, **_: object) -> tuple[Any, Any]:
        """Return the request of this id as soon as CVAT has done what it is about, and the answer that says so.

        Raises:
            CvatError: It cannot be done.
            CvatUnavailableError: It takes too long.
        """
        end = time.monotonic() + _WORK_S
        while True:
            request, answer = self.api_client.requests_api.retrieve(rq_id)
            if request.status.value == "finished":
                return request, answer
            if request.status.value == "failed":
                found = safe_repr(getattr(request, "message", ""), 300)
                raise CvatError(expected_found_fix("that CVAT does what it is asked", found, "Its log says more."))
            if time.monotonic() > end:
                found = f"that {safe_repr(rq_id)} takes more than {_WORK_S:.0f} s"
                raise CvatUnavailableError(expected_found_fix("an answer of CVAT", found, "See its log."))
            time.sleep(_POLL_S)


class _LimitedConnection(RESTClientObject):  # type: ignore[misc]
    """What the SDK sends with, within limits of time and size, and to one server: each request carries the key."""

    def __init__(self, configuration: Any, timeout_s: float) -> None:  # noqa: ANN401
        configuration.retries = False  # a step has its own; nor follow redirects
        super().__init__(configuration)
        self._server = urlsplit(configuration.host)
        self._timeout_s = timeout_s

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> urllib3.HTTPResponse:  # noqa: ANN401
        """Return an answer of success, which is in memory.

        Raises:
            CvatError: CVAT refuses, says too much, or names another server.
            CvatUnavailableError: It does not answer.
        """
        asked = urlsplit(url)
        if _place(asked) != _place(self._server):
            fix = "Have CVAT know the address under which it is reached, or correct CVAT_URL."
            raise CvatError(expected_found_fix(f"addresses of {self._server.netloc}", safe_repr(url), fix))
        limit_s = _UPLOAD_S if "Upload-Multiple" in (options.get("headers") or {}) else self._timeout_s
        options |= {"_parse_response": False, "_check_status": False, "_request_timeout": limit_s}
        try:
            answer = super().request(
                method,
                asked._replace(scheme=self._server.scheme, netloc=self._server.netloc).geturl(),
                *arguments,
                **options,
            )
            try:
                data = answer.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            found = safe_repr(str(error), 300)
            fix = "Start it, or correct CVAT_URL."
            raise CvatUnavailableError(
                expected_found_fix(f"an answer of CVAT at {self._server.geturl()}", found, fix)
            ) from error
        found = f"{answer.status} of {method} {safe_repr(asked.path)}: {safe_repr(data[:300], 300)}"
        if len(data) > MAX_ANSWER_BYTES:
            expected = f"at most {MAX_ANSWER_BYTES:,} bytes"
            raise CvatError(expected_found_fix(expected, f"more in the answer to {method} {asked.path}", FIX))
        if answer.status >= _SERVER_ERROR:
            raise CvatUnavailableError(expected_found_fix("an answer of CVAT", found, "See its log."))
        if not 200 <= answer.status < 300:
            fix = _NO_KEY if answer.status in {401, 403} else "Its log says more."
            raise CvatError(expected_found_fix("that CVAT does what it is asked", found, fix))
        headers = {name: answer.headers[name] for name in answer.headers if name.lower() not in _OF_THE_WIRE}
        return urllib3.HTTPResponse(BytesIO(data), headers, answer.status, reason=answer.reason, preload_content=False)


_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _place(address: SplitResult) -> tuple[str | None, int | None]:
    """Return host and port of an address; CVAT behind a proxy does not know whether that speaks HTTPS."""
    return address.hostname, address.port if address.port not in {80, 443} else None


def _is_completed(job: Any) -> bool:  # noqa: ANN401 - a model of the SDK
    return str(job.state) == "completed"


def _title(run: str) -> str:
    return f"review {run}"


def _draft_title(run: str) -> str:
    return f"review {run} (being prepared)"
