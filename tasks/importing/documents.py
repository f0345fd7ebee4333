"""Annotation files from outside, read with bounds: a hostile one costs this process at most its limits."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar
from xml.etree.ElementTree import Element, ParseError

import defusedxml
from defusedxml import ElementTree
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.dataset.archive import Archive, ArchiveError
from tasks.errors import StudioError, safe_repr
from tasks.importing.annotations import PlaceLog

MAX_DOCUMENT_BYTES = 2**30
MAX_NUMBER = 1e7

T = TypeVar("T", bound=BaseModel)
Coordinate = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]


class DocumentError(StudioError):
    """An annotation file that cannot be read."""


class Record(BaseModel):
    """Base of what an annotation file holds: fields that we do not know are let through, infinite numbers are not."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


def read_bytes(archive: Archive, name: str) -> bytes:
    """Return the bytes of an entry.

    Raises:
        DocumentError: The entry is refused, damaged, or larger than `MAX_DOCUMENT_BYTES`.
    """
    try:
        return archive.read(name, MAX_DOCUMENT_BYTES)
    except ArchiveError as error:
        raise DocumentError(f"{safe_repr(name)}: {error}") from error


def read_text(archive: Archive, name: str) -> str:
    """Return an entry as text; what is no UTF-8 in it shows as such.

    Raises:
        DocumentError: The entry is refused, damaged, or larger than `MAX_DOCUMENT_BYTES`.
    """
    return read_bytes(archive, name).decode("utf-8-sig", "replace")


def read_json(archive: Archive, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return what a JSON entry holds.

    Raises:
        DocumentError: It cannot be read, is no JSON, or is nested too deeply.
    """
    data = read_bytes(archive, name)
    try:
        return json.loads(data)
    except RecursionError:
        raise DocumentError(f"Expected JSON in {safe_repr(name)}, found brackets that are nested too deeply.") from None
    except ValueError as error:  # UnicodeDecodeError among them, and numbers of too many digits
        raise DocumentError(f"Expected JSON in {safe_repr(name)}, found: {safe_repr(str(error))}.") from error


def read_xml(archive: Archive, name: str) -> Element:
    """Return the root of an XML entry.

    Raises:
        DocumentError: It cannot be read, is no XML, or has entities, which could grow without bound or read files.
    """
    data = read_bytes(archive, name)
    try:
        root: Element = ElementTree.fromstring(data, forbid_dtd=False)
    except defusedxml.DefusedXmlException as error:
        raise DocumentError(f"Expected XML without entities in {safe_repr(name)}, found: {error}.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DocumentError(f"Expected XML in {safe_repr(name)}, found: {safe_repr(str(error))}.") from error
    return root


def records(values: object, kind: type[T], log: PlaceLog) -> Iterator[T]:
    """Yield the records of a list; those that do not fit are counted in the log, with the reason.

    Raises:
        DocumentError: It is no list.
    """
    if not isinstance(values, list):
        raise DocumentError(f"Expected a list in {safe_repr(log.place)}, found {safe_repr(values)}.")
    for value in values:
        try:
            yield kind.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            log.add(f"left out: an entry whose {where or 'form'} is not right ({first['msg']})")
        except RecursionError:
            log.add("left out: an entry that is nested too deeply")


def text(element: Element, path: str) -> str:
    """Return the text of an element below another one, empty if there is none."""
    return (element.findtext(path) or "").strip()


def number(element: Element, path: str) -> float | None:
    """Return the number that an element below another one holds, None if there is none."""
    return to_number(text(element, path))


def to_number(written: str | None) -> float | None:
    """Return the number that a text holds, None if it is none or beyond `MAX_NUMBER`."""
    try:
        value = float(written or "")
    except ValueError:
        return None
    return value if abs(value) <= MAX_NUMBER else None
