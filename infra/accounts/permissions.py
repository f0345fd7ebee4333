"""What each request needs, of the front page, of Prefect and of MLflow: a role, and some of them a person.

Deny by default: what no line of the tables names is for admins. A test compares every route of the real applications
with a list, so that a person looks at what a new release brings.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

from infra.accounts.roles import UserRole

SOCKET = "WEBSOCKET"  # the method of a connection that stays open


class Part(StrEnum):
    """What the front door leads to, and who asks people for roles."""

    STUDIO = "studio"
    PREFECT = "prefect"
    MLFLOW = "mlflow"


class Need(NamedTuple):
    """The least role that may send a request, and whether it is for people alone: no worker decides in their place."""

    role: UserRole
    is_of_people: bool = False

    def is_met_by(self, role: UserRole) -> bool:
        """Return whether an account of that role may send it."""
        return role >= self.role and not (self.is_of_people and role is UserRole.WORKER)


class _Rule(NamedTuple):
    part: Part
    methods: frozenset[str]
    path: re.Pattern[str]
    need: Need


def locate(path: str) -> tuple[Part, str]:
    """Return the part that a path of the one host name leads to, and the path there."""
    for part in (Part.PREFECT, Part.MLFLOW):
        if f"{path}/".startswith(f"/{part}/"):
            return part, path.removeprefix(f"/{part}") or "/"
    return Part.STUDIO, path


def need_of(part: str, method: str, path: str) -> Need:
    """Return what a request needs.

    Args:
        part: `studio`, `prefect` or `mlflow`.
        method: Of HTTP, or WEBSOCKET.
        path: As the part itself sees it: without `/prefect`, without a query.
    """
    matching = (rule for rule in _RULES if rule.part == part and method in rule.methods and rule.path.fullmatch(path))
    return next((rule.need for rule in matching), Need(UserRole.ADMIN))


def _rules(part: Part, role: UserRole, prefix: str, table: str, *, of_people: bool = False) -> Iterator[_Rule]:
    """Read lines of methods and a path in which {} is one name and {*} any rest; GET stands for HEAD, too."""
    for line in filter(None, map(str.strip, table.splitlines())):
        methods, path = line.split()
        named = set(methods.split("|"))
        pattern = re.escape(path).replace(r"\{\}", "[^/]+").replace(r"\{\*\}", ".*")
        accepted = frozenset(named | ({"HEAD"} if "GET" in named else set()))
        yield _Rule(part, accepted, re.compile(prefix + pattern), Need(role, of_people))


_V, _O, _W, _A = UserRole.VIEWER, UserRole.OPERATOR, UserRole.WORKER, UserRole.ADMIN
_API = r"/api"

# Bodies that would let an operator or a worker do more are refused in infra/accounts/prefect_requests.py.
_PREFECT = (
    _rules(
        Part.PREFECT,
        _O,
        _API,
        """
        PATCH /flow_runs/{}
        POST /flow_runs/{}/set_state
        POST /deployments/{}/create_flow_run
        """,
    ),
    _rules(
        Part.PREFECT,
        _O,
        _API,
        """
        POST /flow_runs/{}/resume
        POST /deployments/{}/pause_deployment
        POST /deployments/{}/resume_deployment
        PATCH /deployments/{}/schedules/{}
        PUT /saved_searches/
        POST /ui/schemas/validate
        """,
        of_people=True,
    ),
    # What a worker elsewhere and its runs do. It changes neither deployments nor pools: those say what runs where.
    _rules(
        Part.PREFECT,
        _W,
        _API,
        """
        POST /work_pools/{}/get_scheduled_flow_runs
        POST /work_pools/{}/workers/heartbeat
        WEBSOCKET /work_pools/{}/workers/connect
        POST /flows/
        PATCH /flow_runs/{}/labels
        POST /task_runs/
        PATCH /task_runs/{}
        POST /task_runs/{}/set_state
        POST /artifacts/
        PATCH /artifacts/{}
        POST /logs/
        POST /events
        WEBSOCKET /events/in
        GET /admin/storage
        POST /concurrency_limits/increment
        POST /concurrency_limits/decrement
        POST /v2/concurrency_limits/increment
        POST /v2/concurrency_limits/decrement
        POST /v2/concurrency_limits/increment-with-lease
        POST /v2/concurrency_limits/decrement-with-lease
        POST /v2/concurrency_limits/leases/{}/renew
        """,
    ),
    _rules(
        Part.PREFECT,
        _V,
        _API,
        """
        GET /openapi.json
        GET /docs
        GET /docs/oauth2-redirect
        GET /redoc
        GET /static/{*}
        GET /health
        GET /version
        GET /hello
        GET /ready
        GET /csrf-token
        GET /admin/version
        POST /flows/count
        GET /flows/name/{}
        GET /flows/{}
        POST /flows/filter
        POST /flows/paginate
        POST /flow_runs/count
        POST /flow_runs/lateness
        POST /flow_runs/history
        POST /flow_runs/filter
        POST /flow_runs/paginate
        GET /flow_runs/{}
        GET /flow_runs/{}/graph
        GET /flow_runs/{}/graph-v2
        GET /flow_runs/{}/input/{}
        POST /flow_runs/{}/input/filter
        GET /flow_runs/{}/logs/download
        POST /task_runs/count
        POST /task_runs/history
        POST /task_runs/filter
        POST /task_runs/paginate
        GET /task_runs/{}
        GET /flow_run_states/
        GET /flow_run_states/{}
        GET /task_run_states/
        GET /task_run_states/{}
        GET /deployments/name/{}/{}
        GET /deployments/{}
        GET /deployments/{}/schedules
        GET /deployments/{}/work_queue_check
        POST /deployments/filter
        POST /deployments/paginate
        POST /deployments/count
        GET /saved_searches/{}
        POST /saved_searches/filter
        POST /logs/filter
        WEBSOCKET /logs/out
        GET /concurrency_limits/{}
        GET /concurrency_limits/tag/{}
        POST /concurrency_limits/filter
        GET /v2/concurrency_limits/{}
        POST /v2/concurrency_limits/filter
        GET /block_types/{}
        GET /block_types/slug/{}
        POST /block_types/filter
        GET /block_schemas/{}
        GET /block_schemas/checksum/{}
        POST /block_schemas/filter
        GET /block_capabilities/
        GET /collections/views/{}
        GET /work_pools/{}
        POST /work_pools/filter
        POST /work_pools/count
        POST /work_pools/{}/concurrency_status
        GET /work_pools/{}/queues/{}
        POST /work_pools/{}/queues/filter
        POST /work_pools/{}/workers/filter
        POST /task_workers/filter
        GET /work_queues/{}
        GET /work_queues/name/{}
        GET /work_queues/{}/status
        POST /work_queues/filter
        POST /work_queues/{}/concurrency_status
        GET /artifacts/{}
        GET /artifacts/{}/latest
        POST /artifacts/filter
        POST /artifacts/count
        POST /artifacts/latest/filter
        POST /artifacts/latest/count
        WEBSOCKET /events/out
        POST /events/filter
        GET /events/filter/next
        POST /events/count-by/{}
        GET /automations/{}
        GET /automations/related-to/{}
        POST /automations/filter
        POST /automations/count
        POST /templates/validate
        POST /automations/templates/validate
        POST /ui/flows/count-deployments
        POST /ui/flows/next-runs
        POST /ui/flow_runs/history
        POST /ui/flow_runs/count-task-runs
        POST /ui/task_runs/dashboard/counts
        POST /ui/task_runs/count
        GET /ui/task_runs/{}
        """,
    ),
    _rules(Part.PREFECT, _V, r"(?!/api(?:/|$))", "GET /{*}"),  # the pages
)

# Files and versions are for workers and admins: a version is made of the files of a run, and may hold code. Which one
# is the champion is decided by flows that no worker elsewhere carries out.
_MLFLOW = (
    _rules(
        Part.MLFLOW,
        _W,
        r"/(?:ajax-)?api/[\d.]+/mlflow",
        """
        POST /runs/outputs
        POST /runs/log-model
        POST /registered-models/create
        POST /registered-models/alias
        POST /model-versions/create
        POST /logged-models
        PATCH /logged-models/{}
        POST /logged-models/{}/params
        PATCH /logged-models/{}/tags
        """,
    ),
    _rules(
        Part.MLFLOW,
        _W,
        r"/(?:ajax-)?api/[\d.]+/mlflow-artifacts",
        """
        PUT /artifacts/{*}
        POST /mpu/create/{*}
        POST /mpu/complete/{*}
        POST /mpu/abort/{*}
        """,
    ),
    _rules(
        Part.MLFLOW,
        _O,
        r"/(?:ajax-)?api/[\d.]+/mlflow",
        """
        POST /experiments/create
        POST /experiments/set-experiment-tag
        POST /runs/create
        POST /runs/update
        POST /runs/log-metric
        POST /runs/log-parameter
        POST /runs/log-batch
        POST /runs/log-inputs
        POST /runs/set-tag
        POST /runs/delete-tag
        POST /model-versions/set-tag
        """,
    ),
    _rules(
        Part.MLFLOW,
        _O,
        r"/(?:ajax-)?api/[\d.]+/mlflow",
        """
        POST /registered-models/set-tag
        PATCH /registered-models/update
        PATCH /model-versions/update
        """,
        of_people=True,
    ),
    _rules(
        Part.MLFLOW,
        _V,
        r"/(?:ajax-)?api/[\d.]+/mlflow",
        """
        GET /experiments/get
        GET /experiments/get-by-name
        GET|POST /experiments/search
        POST /experiments/search-datasets
        GET /runs/get
        POST /runs/search
        GET /metrics/get-history
        GET /metrics/get-history-bulk
        GET /metrics/get-history-bulk-interval
        GET /artifacts/list
        GET /registered-models/get
        GET /registered-models/search
        GET|POST /registered-models/get-latest-versions
        GET /registered-models/alias
        GET /model-versions/get
        GET /model-versions/search
        GET /model-versions/get-download-uri
        GET /logged-models/{}
        GET /logged-models/{}/artifacts/directories
        GET /logged-models/{}/artifacts/files
        POST /logged-models/search
        GET /datasets/{}
        GET /datasets/{}/experiment-ids
        GET /datasets/{}/records
        GET|POST /datasets/search
        GET /traces
        GET /traces/get
        GET /traces/batchGet
        GET /traces/{}
        GET /traces/{}/info
        GET /traces/{}/assessments/{}
        GET /unified-traces
        GET /get-online-trace-details
        GET /get-trace-artifact
        POST /traces/search
        POST /traces/batchGetInfos
        POST /traces/calculate-filter-correlation
        POST /traces/metrics
        GET /issues/{}
        POST /issues/search
        GET /label-schemas/get
        GET /label-schemas/get-by-name
        GET /label-schemas/list
        GET /review-queues/get
        GET /review-queues/get-by-name
        GET /review-queues/list
        GET /review-queues/items/list
        GET /workspaces
        GET /workspaces/{}
        GET /server-info
        GET|POST /ui-telemetry
        GET /users/current
        GET /users/current/permissions
        """,
    ),
    _rules(
        Part.MLFLOW,
        _V,
        r"/(?:ajax-)?api/[\d.]+/mlflow-artifacts",
        """
        GET /artifacts
        GET /artifacts/{*}
        """,
    ),
    _rules(
        Part.MLFLOW,
        _V,
        "",
        """
        GET /
        GET /health
        GET /version
        GET /static-files/{*}
        GET /get-artifact
        GET /model-versions/get-artifact
        GET|POST /graphql
        """,
    ),
)

_STUDIO = (
    _rules(
        Part.STUDIO,
        _A,
        "",
        """
        GET|POST|DELETE /accounts
        GET|POST|DELETE /accounts/{*}
        GET /audit
        GET /audit/{*}
        """,
    ),
    _rules(
        Part.STUDIO,
        _V,
        "",
        """
        POST|DELETE /account
        POST|DELETE /account/{*}
        POST /predict/{*}
        POST /sign-in
        POST /sign-out
        GET /{*}
        """,
    ),
    # Whatever acts is a flow run, an answer or an upload.
    _rules(Part.STUDIO, _O, "", "POST|PUT|PATCH|DELETE /{*}", of_people=True),
)

_RULES = tuple(chain.from_iterable((*_PREFECT, *_MLFLOW, *_STUDIO)))
