"""Rules and dashboards: Prometheus' own tool reads them, and their metrics are those that there are."""

import re
from pathlib import Path

import pytest
import yaml

from infra.metrics import dashboards
from infra.metrics.dashboards import DASHBOARDS
from infra.metrics.prometheus_services import RULES
from tests.infra.metrics.programs import metrics_of, needs_promtool, promtool
from tests.paths import ROOT

ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
QUERIES = [query for each in DASHBOARDS for panel in each.panels for query in panel.queries.values()]
TEST = Path(__file__).with_name("rules_test.yml")


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)


@needs_promtool
def test_each_alert_fires_when_it_should_and_no_other_with_it(tmp_path: Path) -> None:
    test = tmp_path / "test.yml"
    test.write_text(TEST.read_text().replace("RULES", str(RULES)))
    promtool("test", "rules", test)


def test_every_alert_has_such_a_test() -> None:
    assert [rule["alert"] for rule in ALERTS if rule["alert"] not in TEST.read_text()] == []


@needs_promtool
def test_prometheus_understands_every_query_of_the_dashboards(tmp_path: Path) -> None:
    records = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    assert f"{len(QUERIES)} rules found" in promtool("check", "rules", path)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_to_do_and_is_in_the_docs(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(re.findall(r"[.:] ", rule["annotations"]["summary"])) >= 1, "what is wrong. What to do."
    assert f"| `{rule['alert']}` |" in (ROOT / "docs" / "metrics.md").read_text()


def test_the_dashboards_are_up_to_date() -> None:
    """`python -m infra.metrics.dashboards` writes them."""
    assert {path: path.read_text() for path in sorted(dashboards.FOLDER.iterdir())} == dashboards.files()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (model) (rate(a_total{x="b c"}[5m])) / on (model) c > 0', {"a_total", "c"}),
        ("time() - a_b and on () up unless predict_linear(d[1h], 4 * 3600)", {"a_b", "up", "d"}),
    ],
)
def test_the_metrics_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names
