"""A browser for pages of results."""

from collections.abc import Iterator

import pytest

from tests.infra.browser import OpenBrowser, Page

# What a page may not do: fail in a script, write to the console, or want what its policy forbids.
WATCH = """
window.told = [];
addEventListener("error", (event) => event.message && told.push(event.message));
addEventListener("unhandledrejection", (event) => told.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => told.push(event.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...words) => told.push(words.join(" "));
"""


@pytest.fixture(scope="module")
def browser(open_browser: OpenBrowser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("browser") / "profile") as page:
        page.call("Page.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        yield page
