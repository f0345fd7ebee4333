"""The tools in which people review: what a round asks of each, and which one it is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tasks.review.answers import ReviewTask
from tasks.review.cvat_format import is_supported, require_supported
from tasks.review.pictures import Shown
from tasks.review.rounds import Round, ToolName
from tasks.settings import Settings


class ReviewTool(Protocol):
    """A tool; its methods raise StudioError if it refuses or does not answer.

    Attributes:
        advice: What people are asked to do in it, in sentences.
        answers_name: Of the file of what they have submitted.
        import_format: In which that is imported (`ImportParams.format`).
    """

    advice: str
    answers_name: str
    import_format: str

    def show(self, run: str, description: str, review: Round, shown: Shown, folder: Path) -> str:
        """Show the images of a round that it does not show yet, by way of `folder`; return the address for people."""

    def read(self, run: str, review: Round) -> Iterable[ReviewTask]:
        """Return what people have answered so far; images that they do not see may be missing."""

    def is_open(self, run: str, timeout_s: float) -> bool:
        """Return whether the round of a suspended run waits for people; the tool may take so long for each answer."""

    def documents(self, review: Round, exports: Mapping[str, str]) -> dict[str, bytes]:
        """Return files for an import by their names: first that of `exports`, what was submitted of each entry."""


def tool_of(name: ToolName) -> ReviewTool:
    """Return the tool of this name, and import no other: the SDK of CVAT takes a second and 31 MB."""
    match name:
        case ToolName.FRONT_PAGE:
            from tasks.review.own_page import FrontPageTool

            return FrontPageTool()
        case ToolName.LABEL_STUDIO:
            from tasks.review.label_studio import LabelStudioTool

            return LabelStudioTool()
        case ToolName.CVAT:
            from tasks.review.cvat import CvatTool

            return CvatTool()


def choose_tool(wanted: str, task: str, settings: Settings) -> ToolName:
    """Return where people answer about a task: what is wanted, or, for `auto`, what there is.

    Raises:
        CvatTaskError: CVAT is wanted, and the task cannot be reviewed there.
    """
    if wanted == ToolName.CVAT:
        require_supported(task)
    if wanted != "auto":
        return ToolName(wanted)
    if settings.label_studio_url:
        return ToolName.LABEL_STUDIO
    return ToolName.CVAT if settings.cvat_url and is_supported(task) else ToolName.FRONT_PAGE
