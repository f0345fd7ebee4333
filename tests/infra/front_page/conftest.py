"""One browser for all tests of the page; each has a tab of its own."""

from collections.abc import Iterator

import pytest

from tests.infra.browser import OpenBrowser, Page


@pytest.fixture(scope="package")
def browser(open_browser: OpenBrowser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser whose tabs share cookies and storage."""
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page
