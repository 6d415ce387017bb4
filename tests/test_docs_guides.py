"""The guides: what they name exists, and what exists is in them."""

import ast
import configparser
import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from bot.__main__ import cli
from bot.delivery import NEEDED
from bot.metrics import Metrics
from docs import update_configuration

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
EXAMPLES = DOCS / "examples"
ROUTES = re.findall(
    r'web\.(?:get|post)\(\s*"([^"]+)"', (ROOT / "bot/http_api.py").read_text("utf-8")
)


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


# Monitoring


def metrics() -> dict[str, set[str]]:
    """Name → what a monitor sees of it."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}
    found = {}
    for family in Metrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = {family.name + each for each in suffixes.get(family.type, ("",))}
    return found


def described() -> set[str]:
    return set(
        re.findall(r"^\| `((?:comfycord|process)_\w+)` \|", read("docs/monitoring.md"), re.M)
    )


def test_every_metric_is_described_and_no_other() -> None:
    known = metrics().keys()

    assert known <= described()
    assert described() <= known | {each for each in described() if each.startswith("process_")}


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yaml"])
def test_dashboards_and_alerts_use_metrics_that_exist(name: str) -> None:
    text = (EXAMPLES / "monitoring" / name).read_text("utf-8")

    used = set(re.findall(r"\b(?:comfycord|process)_[a-z_]+", text))

    assert used
    assert used <= described().union(*metrics().values())  # those of the process: on Linux only


def test_what_monitors_read_is_whole() -> None:
    dashboard = json.loads(read("docs/examples/monitoring/grafana.json"))
    (group,) = yaml.safe_load(read("docs/examples/monitoring/alerts.yaml"))["groups"]
    prometheus = yaml.safe_load(read("docs/examples/monitoring/prometheus.yaml"))
    guide = read("docs/monitoring.md")

    assert all(target["expr"] for each in dashboard["panels"] for target in each["targets"])
    assert len({each["id"] for each in dashboard["panels"]}) == len(dashboard["panels"])
    assert [rule["alert"] for rule in group["rules"] if f"`{rule['alert']}`" not in guide] == []
    assert prometheus["rule_files"] == ["alerts.yaml"]


# Settings and routes


def test_the_page_of_all_settings_is_up_to_date() -> None:
    said = "run `uv run python docs/update_configuration.py`"

    assert read("docs/configuration.md") == update_configuration.page(), said


def test_every_variable_of_the_environment_is_on_that_page() -> None:
    code = read("bot/config.py")
    names = re.findall(r'["`]((?:DISCORD|COMFYUI|DATABASE|COMFYCORD|HTTP)_[A-Z_]*[A-Z])\b', code)

    assert {each for each in names if each not in read("docs/configuration.md")} == set()


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_in_the_guide(route: str) -> None:
    kinds = {"{id}": r"\$ID", "{name}": r"\w+", "{number}": r"\d+"}
    parts = [kinds.get(part) or re.escape(part) for part in re.split(r"({\w+})", route)]

    assert re.search(rf"\$U{''.join(parts)}(?![\w/$])", read("docs/guide.md"))


# Links and names


def anchors(text: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ +(.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text("utf-8"))
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        to = page.parent / target if target else page
        assert to.exists(), target
        if anchor:
            assert anchor in anchors(to.read_text("utf-8")), f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = read("docs/README.md")
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}

    assert {each for each in pages if f"({each})" not in index} == set()


def test_every_decision_is_listed_by_topic() -> None:
    text = read("docs/architecture.md")

    for path in (DOCS / "decisions").glob("*.md"):
        assert f"(decisions/{path.name})" in text, path.name


def test_what_the_walk_through_the_code_names_exists() -> None:
    named = re.findall(r"`((?:bot|cogs|comfy|tests|docs)/[\w./*]+)`", read("docs/architecture.md"))

    assert len(named) > 20
    assert [each for each in named if not [*ROOT.glob(each.rstrip("/"))]] == []


@cache
def said() -> str:
    """Every text in the code."""
    trees = (ast.parse(p.read_text("utf-8")) for f in ("bot", "cogs", "comfy")
             for p in (ROOT / f).rglob("*.py"))  # fmt: skip
    nodes = (node for tree in trees for node in ast.walk(tree))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(each for each in constants if isinstance(each, str))


def test_every_sentence_of_troubleshooting_is_one_that_people_see() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", read("docs/troubleshooting.md"), re.M)
    quoted = [text for row in rows for text in re.findall(r"\*([^*]+)\*", row)]
    parts = [part.strip(" .,`()") for text in quoted for part in re.split("…|: ", text)]

    assert len(quoted) > 40
    assert [each for each in parts if each not in said()] == []


def test_every_permission_is_in_the_page_on_security() -> None:
    text = " ".join(read("docs/security.md").split())

    assert [name for name in NEEDED.values() if name not in text] == []


# Examples


def test_the_container_of_the_guide_is_whole() -> None:
    (service,) = yaml.safe_load(read("docs/examples/compose.yaml"))["services"].values()
    dockerfile = read("Dockerfile")
    (health,) = re.findall(r"HEALTHCHECK .*?CMD (\[.*\])", dockerfile.replace("\\\n", ""))
    *_, code = json.loads(health)
    named = {each.partition(":")[0] for each in service["volumes"]}

    assert service["env_file"] == ".env"
    assert service["extra_hosts"] == ["host.docker.internal:host-gateway"]
    assert "//host.docker.internal:" in service["environment"]["COMFYUI_BASE_URL"]
    assert "/healthz" in code
    compile(code, "healthcheck", "exec")
    assert named == {"./config.yaml", "workflows", "data"}
    assert f"WORKDIR {service['volumes'][0].split(':')[1].rpartition('/')[0]}" in dockerfile
    assert "docker compose exec bot comfycord check" in read("docs/guide.md")


def test_the_service_of_the_guide_is_whole() -> None:
    unit = configparser.RawConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(read("docs/examples/comfycord.service"))
    service, guide = unit["Service"], read("docs/guide.md")
    program, command = service["ExecStart"].split()

    assert command in cli.commands
    assert f"{program} init" in guide
    assert f"python3 -m venv {program.removesuffix('/bin/comfycord')}" in guide
    assert f"useradd --system --home-dir {service['WorkingDirectory']}" in guide
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert service["EnvironmentFile"] == f"{service['WorkingDirectory']}/.env"
    assert service["User"] == "comfycord"
    assert (service["ProtectSystem"], service["Restart"]) == ("strict", "on-failure")
    assert int(service["TimeoutStopSec"]) > 10  # the bot takes ten seconds at most
