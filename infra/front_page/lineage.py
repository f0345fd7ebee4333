"""What a thing was made from and what was made from it: a part of the pages of archives, versions and predictions."""

from base64 import b64encode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.front_page.pages import render
from tasks.catalogue.lineage import trace


def show_lineage(request: Request) -> Response:
    """Answer with a lineage as a picture and as text; query: `name`, as `trace` takes it.

    Raises:
        CatalogueError: There is nothing of this name, and nothing was.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    found = trace(request.query_params.get("name", ""))
    picture = b64encode(found.to_svg().encode("utf-8", "replace")).decode()
    return render(request, "lineage.html", name=found.name, text=found.to_text(), picture=picture)


ROUTES = [Route("/lineage", show_lineage)]
