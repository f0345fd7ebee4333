"""Approval by a person, the last gate of a version: the run asks, lets go of all it holds, and waits suspended."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tasks.deployment.announcements import ANSWERED_AT, ANSWERED_BY, APPROVAL, COMMENT, announce_approval_wanted
from tasks.deployment.approval_form import ApprovalForm, describe, iso, parse_form, unanswered, with_links
from tasks.deployment.refusals import VersionRefusedError
from tasks.deployment.session import DeploymentSession
from tasks.errors import AwaitsAnswer, StudioError
from tasks.orchestration import questions
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.step import SERVICE_RESTART
from tasks.orchestration.suspension import can_be_suspended
from tasks.parameters import ServingParams
from tasks.serving import kept_versions
from tasks.serving.http_client import ServingError
from tasks.serving.model_repository import ConfigFile, read_published_digest, require_published
from tasks.serving.served_model import ServedModel
from tasks.tracking.deployment_runs import RolloutRecord, rollout_link
from tasks.tracking.links import page_links
from tasks.tracking.registry import read_tags, tag_version


class NotApprovedError(VersionRefusedError):
    """A person refused the version, or nobody answered in time."""

    declined = True

    def __init__(self, message: str) -> None:
        """Refuse the version with a message for people."""
        super().__init__("approval", message)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a person is asked about: a version, its graph by SHA-256 (hex), and the champion that it replaces, if any.

    `deadline` is in ISO 8601.
    """

    model_name: str
    version: int
    digest: str
    champion: int | None
    deadline: str
    description: str

    @property
    def title(self) -> str:
        """Model and version in words."""
        return f"{self.model_name} version {self.version}"

    @property
    def ends_at(self) -> datetime:
        """The deadline."""
        return datetime.fromisoformat(self.deadline)


def require_askable(serving: ServingParams) -> None:
    """Check, before the work begins, that the run can wait for a person if it has to.

    Raises:
        StudioError: It is not a run of a deployment, which alone can be suspended.
    """
    if serving.approval and not can_be_suspended():
        raise StudioError(
            "Expected a run of deployment deploy-model/gpu, which can wait for a person, found one without a "
            "deployment. Start it with `studio deploy` or in the Prefect UI, or leave out serving.approval."
        )


def find_approved_version(session: DeploymentSession) -> int | None:
    """Return the version that a person has approved for this flow run; None if nobody was asked yet.

    Raises:
        NotApprovedError: A person refused it, or nobody answered in time.
        VersionRefusedError: Something else would be deployed by now than what was asked about.
        AwaitsAnswer: There is no answer yet.
    """
    stored = questions.find_subject()
    if stored is None:
        return None
    subject = Subject(**stored)
    session.record.version = subject.version
    kept_versions.unload_leftovers(subject.model_name)  # of an attempt that was killed before it could ask
    given = questions.find_answer()
    if given is None and datetime.now(UTC) < subject.ends_at:
        raise AwaitsAnswer
    form = parse_form(given.fields) if given else unanswered(subject.ends_at)
    given_at = given.given_at if given else datetime.now(UTC)
    if form.decision == "refuse":
        tag_version(subject.model_name, subject.version, _tags("refused", form, given_at))
        remark = f": {form.remark}" if form.remark else "."
        raise NotApprovedError(f"{subject.title} was refused by {form.signed}{remark}")
    found = _present(session, subject)
    if reason := staleness(subject, *found):
        raise VersionRefusedError("approval", reason)
    log_step("%s was approved by %s", subject.title, form.signed)
    session.record.tags |= _tags("approved", form, given_at)
    tag_version(subject.model_name, subject.version, session.record.tags)
    return subject.version


def request_approval(model: ServedModel, champion: ServedModel | None, timeout_h: float, record: RolloutRecord) -> None:
    """Keep what a person is asked about.

    Raises:
        AwaitsAnswer: Always: the flow lets go of lock and candidate, and `suspended_for_answer` asks.
    """
    deadline = datetime.now(UTC) + timedelta(hours=timeout_h)
    title = f"{model.name} version {model.version}"
    served = (f"version {champion.version}", read_tags(champion.name, champion.version)) if champion else None
    facts = describe(title, read_tags(model.name, model.version), served, deadline)
    links = {"Parity": rollout_link(record.flow_run_id)}
    links |= {
        f"Version {each.version}": page_links("", each.run_id, "", None) | page_links("", None, each.name, each.version)
        for each in (model, champion)
        if each
    }
    subject = Subject(
        model_name=model.name,
        version=model.version,
        digest=require_published(model.name, model.version),
        champion=champion.version if champion else None,
        deadline=iso(deadline),
        description=with_links(facts, links),
    )
    questions.keep_subject(asdict(subject))
    record.outcome = f"{title} has passed its gates and waits for approval"
    raise AwaitsAnswer


@contextmanager
def suspended_for_answer() -> Iterator[None]:
    """Suspend the flow run after the block, if that has asked for approval and has let go of everything.

    Raises:
        Pause: The run is suspended, and this process ends.
    """
    try:
        yield
    except AwaitsAnswer:
        subject = Subject(**(questions.find_subject() or {}))
        record = RolloutRecord(
            action="ask about", model_name=subject.model_name, flow_run_id=flow_run_id(), version=subject.version
        )
        announce_approval_wanted(record, subject.champion)
        log_step("%s waits for approval until %s", subject.title, subject.deadline)
        questions.ask(ApprovalForm.model_json_schema(), subject.description, subject.ends_at)


def answer(flow_run: UUID, approve: bool, name: str, comment: str = "") -> None:
    """Approve or refuse the version that a suspended run of deploy-model asks about; `name` is that of the person.

    Raises:
        StudioError: The run does not wait for approval (any more), or name or comment is too long or empty.
        PrefectUnavailableError: The server does not answer.
    """
    form = parse_form({"decision": "approve" if approve else "refuse", "name": name, "comment": comment})
    questions.answer(flow_run, form.model_dump())


def staleness(subject: Subject, champion: int | None, digest: str | None) -> str | None:
    """Return why `subject` is not what would be deployed now; None if it is.

    A rollout that was killed after its version became champion finds that version.
    """
    found = []
    if champion not in {subject.champion, subject.version}:
        found.append(f"the champion was {_version(subject.champion)}, and is {_version(champion)} now")
    if digest != subject.digest:
        found.append(f"the SHA-256 of its graph was {subject.digest}, and is {digest} now")
    if not found:
        return None
    return (
        f"Expected that {subject.title} would replace what it would have replaced when it was approved, found that "
        f"{' and that '.join(found)}. Start deploy-model/gpu again, which asks again."
    )


def _present(session: DeploymentSession, subject: Subject) -> tuple[int | None, str | None]:
    """The champion that clients get now, and the digest of the version's graph."""

    def read() -> tuple[int | None, str | None]:
        served = session.read_champions().served
        if served is None and ConfigFile(subject.model_name).read() is not None:
            away = ServingError(f"Expected Triton to serve {subject.model_name}, found that it has not loaded it yet.")
            away.transient = True
            raise away
        return served.version if served else None, read_published_digest(subject.model_name, subject.version)

    return SERVICE_RESTART.call(read)


def _tags(verdict: str, form: ApprovalForm, given_at: datetime) -> dict[str, str]:
    return {APPROVAL: verdict, ANSWERED_BY: form.signed, ANSWERED_AT: iso(given_at), COMMENT: form.remark}


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"
