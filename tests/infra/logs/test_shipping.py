"""The configurations of Fluent Bit and Loki, against what their documentation has.

Neither program is in a registry that these tests reach: whether they start is not tested here.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.logs.formats import read_header
from tests.infra.logs.log_folder import ours
from tests.infra.logs.test_formats import WRITTEN
from tests.paths import ROOT

FOLDER = ROOT / "infra" / "logging"
OUTPUTS = ("fluent-bit-loki.yaml", "fluent-bit-opensearch.yaml")
STARTED = (*OUTPUTS, "fluent-bit-docker.yaml")
# Of Fluent Bit 4's manual: the settings of each plugin that there are, as far as they are used here.
_CONNECTION = {"name", "match", "host", "port", "tls", "http_user", "http_passwd", "retry_limit"}
KNOWN = {
    "tail": {
        *("name", "tag", "path", "parser", "key", "path_key", "db", "read_from_head", "buffer_max_size"),
        *("skip_long_lines", "skip_empty_lines", "mem_buf_limit", "multiline.parser"),
    },
    "parser": {"name", "match", "key_name", "parser", "reserve_data"},
    "modify": {"name", "match", "add", "set", "rename", "copy", "remove", "condition"},
    "nest": {"name", "match", "operation", "nested_under"},
    "grep": {"name", "match", "regex"},
    "loki": _CONNECTION | {"labels", "structured_metadata", "line_format"},
    "opensearch": _CONNECTION
    | {"logstash_format", "logstash_prefix", "time_key", "time_key_nanos", "generate_id", "suppress_type_name"},
}
SAMPLES = {
    "glog": ["I1130 11:37:47.408466 master.go:400 x", 'E1130 11:38:00.319045 17331 server.cc:241] "y z"'],
    "postgres": [
        "2026-11-30 11:37:47.064 UTC [7] postgres@mlflow ERROR:  no",
        "2026-11-30 11:37:47.064 UTC [7] LOG:  x",
    ],
    "supervisord": ["2026-11-30 11:37:46,264 CRIT Supervisor is running as root."],
}


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return loaded


SHARED = read("fluent-bit.yaml")


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_plugin_is_given_settings_that_it_has(output: str) -> None:
    config = read(output)
    assert config["includes"] == ["fluent-bit.yaml"]
    plugins = [*SHARED["pipeline"]["inputs"], *SHARED["pipeline"]["filters"], *config["pipeline"]["outputs"]]
    assert {
        plugin["name"]: set(plugin) - KNOWN[plugin["name"]] for plugin in plugins if set(plugin) - KNOWN[plugin["name"]]
    } == {}
    parsers = {parser["name"] for parser in [*SHARED["parsers"], *SHARED["multiline_parsers"]]}
    used = {plugin[key] for plugin in plugins for key in ("parser", "multiline.parser") if key in plugin}
    assert used == parsers


def test_logs_of_containers_are_read_as_those_of_files() -> None:
    config = read("fluent-bit-docker.yaml")
    (tail,), filters, (loki,) = (config["pipeline"][part] for part in ("inputs", "filters", "outputs"))
    plugins = [tail, *filters, loki]
    assert {each["name"]: found for each in plugins if (found := {*each} - KNOWN[each["name"]])} == {}
    assert config["parsers"] == [each for each in SHARED["parsers"] if each["name"] != "supervisord"]
    (elsewhere,) = read("fluent-bit-loki.yaml")["pipeline"]["outputs"]
    assert loki | {"match": "studio.*"} == elsewhere

    def of_levels(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        changes = [each for each in found if each.get("add") == "level info" or "condition" in each]
        return [each | {"match": ""} for each in changes]

    assert of_levels(filters) == of_levels(SHARED["pipeline"]["filters"])
    assert filters[-len(of_levels(filters)) :] == [each | {"match": tail["tag"]} for each in of_levels(filters)]


def test_the_services_of_the_compose_file_are_those_whose_logs_are_kept() -> None:
    compose = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
    (kept,) = [
        each["regex"] for each in read("fluent-bit-docker.yaml")["pipeline"]["filters"] if each["name"] == "grep"
    ]
    key, pattern = kept.split(" ", 1)
    assert key == "container"
    written = compose["services"].keys() - {"users", "grafana", "loki", "fluent-bit"}
    assert {name for name in compose["services"] if re.search(pattern, name)} == written
    assert {each["logging"]["options"]["labels"] for each in compose["services"].values()} == {
        "com.docker.compose.service"
    }


@pytest.mark.parametrize("parser", SAMPLES)
def test_a_parser_finds_what_our_own_reader_finds(parser: str) -> None:
    (pattern,) = [each["regex"] for each in SHARED["parsers"] if each["name"] == parser]
    for sample in SAMPLES[parser]:
        found = re.match(pattern.replace("(?<", "(?P<"), sample)
        header = read_header(sample, WRITTEN)
        assert found
        assert header
        assert found["message"].strip('"') == header.message


def test_a_line_of_ours_has_the_time_that_the_parser_expects() -> None:
    (parser,) = [each for each in SHARED["parsers"] if each["name"] == "studio-json"]
    assert parser["time_format"] == "%Y-%m-%dT%H:%M:%S.%LZ"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", json.loads(ours(1, "x"))[parser["time_key"]])


def test_no_run_is_a_label() -> None:
    """Each label makes a stream, and there are as many runs as one likes."""
    (loki,) = read("fluent-bit-loki.yaml")["pipeline"]["outputs"]
    assert loki["labels"] == "job=yolo-studio, service=$service, level=$level"
    assert "flow_run_id=$flow_run_id" in loki["structured_metadata"]


@pytest.mark.parametrize("name", [path.name for path in FOLDER.glob("*.yaml")])
def test_no_password_and_no_address_elsewhere_is_in_a_configuration(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert set(re.findall(r"passwd: (.*)", text)) <= {"${LOKI_PASSWORD}", "${OPENSEARCH_PASSWORD}"}
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", text)) <= {"127.0.0.1"}


def _loki() -> str | None:
    """Grafana's Loki; Debian's package of that name is a program for genetics."""
    program = shutil.which("loki")
    if program is None:
        return None
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    return program if "loki, version 3" in said.stdout + said.stderr else None


@pytest.mark.skipif(_loki() is None, reason="no Grafana Loki 3 on the PATH")
def test_loki_takes_its_configuration(tmp_path: Path) -> None:
    program = _loki()
    assert program
    command = [program, f"-config.file={FOLDER / 'loki.yaml'}", "-config.expand-env", "-verify-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"LOKI_DATA": str(tmp_path)})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("output", STARTED)
@pytest.mark.skipif(shutil.which("fluent-bit") is None, reason="no Fluent Bit on the PATH")
def test_fluent_bit_takes_its_configuration(output: str, tmp_path: Path) -> None:
    names = set(re.findall(r"\$\{(\w+)\}", (FOLDER / output).read_text() + (FOLDER / "fluent-bit.yaml").read_text()))
    known = dict.fromkeys(names, "x") | {"STUDIO_LOGS": str(tmp_path), "FLUENT_BIT_STATE": str(tmp_path)}
    known |= {name: "3100" if name.endswith("PORT") else "off" for name in names if name.endswith(("PORT", "TLS"))}
    command = [str(shutil.which("fluent-bit")), "--dry-run", "-c", str(FOLDER / output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=known)
    assert done.returncode == 0, done.stderr
