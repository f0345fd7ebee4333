"""What a clean-up reports, and what it cannot know."""

from tasks.parameters import CleanUpParams
from tasks.retention.report import clean_up_markdown
from tasks.retention.rules import Choice, Kind


def test_a_kind_that_nobody_could_be_asked_for_is_not_called_none() -> None:
    choice = Choice(going=(), staying=(), unasked={Kind.TRACKED: "MLflow is elsewhere. Run `mlflow gc` there."})
    page = clean_up_markdown(choice, CleanUpParams())
    told = [line for line in page.splitlines() if str(Kind.TRACKED) in line]
    assert told == [f"- {Kind.TRACKED}: MLflow is elsewhere. Run `mlflow gc` there."]
    assert f"| {Kind.GRAPHS} | 0 |" in page
