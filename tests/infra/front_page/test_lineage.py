"""Lineage on the pages of archives, versions and predictions, with the real registry."""

import base64
import html
import re
from uuid import uuid4

import pytest

from infra.stack_settings import StackSettings
from tests.clients import front_page
from tests.tasks.catalogue.registry import infer, register

HOSTILE = "<img src=x onerror=alert(1)>'\".zip"


def test_lineage_is_a_picture_and_a_text_whatever_it_is_asked_of(stack: StackSettings) -> None:
    model = f"model-{uuid4().hex[:8]}"
    archive = f"{uuid4().hex}/{HOSTILE}"
    register(model, {archive: "e" * 64})
    run = infer(model, 1)
    with front_page(stack) as page:
        for name in (f"s3://datasets/{archive}", f"{model}/1", run):
            text = page.get("/lineage", params={"name": name}).raise_for_status().text
            picture = re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', text)
            assert picture
            for shown in (html.unescape(text), html.unescape(base64.b64decode(picture[1]).decode())):
                assert f"{model}/1" in shown
            assert f"archive {archive}" in html.unescape(text)
            assert "<img src=x" not in text


@pytest.mark.parametrize("name", ["", "absent/1", "s3://datasets/<absent>.zip", "7c9e6679-7425-40de-944b-e07fc1f90ae7"])
def test_what_never_was_has_no_lineage(stack: StackSettings, name: str) -> None:
    with front_page(stack) as page:
        answer = page.get("/lineage", params={"name": name})
    assert (answer.status_code, "Expected an archive, a model" in answer.text) == (400, True)
