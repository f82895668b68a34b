"""The built-in kinds are those that kube-apiserver v1.36 serves by default, named and shaped as it names and shapes them."""

from __future__ import annotations

import pytest

from minikube_py.resources.registry import built_in
from tests.resources.values import resource

# group/version, then the resources and subresources that the v1.36 conformance suite's own list of endpoints names
ENDPOINTS = {
    "v1": (
        "bindings componentstatuses configmaps endpoints events limitranges namespaces namespaces/finalize namespaces/status "
        "nodes nodes/proxy nodes/status persistentvolumeclaims persistentvolumeclaims/status persistentvolumes "
        "persistentvolumes/status pods pods/attach pods/binding pods/ephemeralcontainers pods/eviction pods/exec pods/log "
        "pods/portforward pods/proxy pods/resize pods/status podtemplates replicationcontrollers replicationcontrollers/scale "
        "replicationcontrollers/status resourcequotas resourcequotas/status secrets serviceaccounts serviceaccounts/token "
        "services services/proxy services/status"
    ),
    "admissionregistration.k8s.io/v1": "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations "
    "validatingadmissionpolicies validatingadmissionpolicies/status validatingadmissionpolicybindings validatingwebhookconfigurations",
    "apps/v1": "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
    "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    "authentication.k8s.io/v1": "selfsubjectreviews tokenreviews",
    "authorization.k8s.io/v1": "localsubjectaccessreviews selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews",
    "autoscaling/v1": "horizontalpodautoscalers horizontalpodautoscalers/status",
    "autoscaling/v2": "horizontalpodautoscalers horizontalpodautoscalers/status",
    "batch/v1": "cronjobs cronjobs/status jobs jobs/status",
    "certificates.k8s.io/v1": "certificatesigningrequests certificatesigningrequests/approval certificatesigningrequests/status",
    "coordination.k8s.io/v1": "leases",
    "discovery.k8s.io/v1": "endpointslices",
    "events.k8s.io/v1": "events",
    "flowcontrol.apiserver.k8s.io/v1": "flowschemas flowschemas/status prioritylevelconfigurations prioritylevelconfigurations/status",
    "networking.k8s.io/v1": "ingressclasses ingresses ingresses/status ipaddresses networkpolicies servicecidrs servicecidrs/status",
    "node.k8s.io/v1": "runtimeclasses",
    "policy/v1": "poddisruptionbudgets poddisruptionbudgets/status",
    "rbac.authorization.k8s.io/v1": "clusterrolebindings clusterroles rolebindings roles",
    "resource.k8s.io/v1": "deviceclasses resourceclaims resourceclaims/status resourceclaimtemplates resourceslices",
    "scheduling.k8s.io/v1": "priorityclasses",
    "storage.k8s.io/v1": "csidrivers csinodes csistoragecapacities storageclasses volumeattachments volumeattachments/status "
    "volumeattributesclasses",
}


def _served() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for r in built_in():
        for ref in (r.ref, *r.converters):
            names = {ref.plural, *(f"{ref.plural}/{sub}" for sub in r.subresources)}
            found.setdefault(ref.api_version, set()).update(names)
    return found


def test_serves_exactly_what_upstream_serves_by_default() -> None:
    assert _served() == {group_version: set(names.split()) for group_version, names in ENDPOINTS.items()}


def test_same_values_at_every_call() -> None:
    assert built_in() is built_in()


@pytest.mark.parametrize(
    ("plural", "group", "short", "categories"),
    [
        ("configmaps", "", ("cm",), ()),
        ("pods", "", ("po",), ("all",)),
        ("services", "", ("svc",), ("all",)),
        ("namespaces", "", ("ns",), ()),
        ("deployments", "apps", ("deploy",), ("all",)),
        ("horizontalpodautoscalers", "autoscaling", ("hpa",), ("all",)),
        ("ingresses", "networking.k8s.io", ("ing",), ()),
        ("validatingwebhookconfigurations", "admissionregistration.k8s.io", (), ("api-extensions",)),
        ("storageclasses", "storage.k8s.io", ("sc",), ()),
    ],
)
def test_short_names_and_categories(plural: str, group: str, short: tuple[str, ...], categories: tuple[str, ...]) -> None:
    found = resource(plural, group)
    assert (found.short_names, found.categories) == (short, categories)


def test_what_is_only_asked_or_done_is_not_stored() -> None:
    assert {r.ref.plural for r in built_in() if not r.stored} == {
        "bindings", "componentstatuses", "selfsubjectreviews", "tokenreviews", "localsubjectaccessreviews", "selfsubjectaccessreviews",
        "selfsubjectrulesreviews", "subjectaccessreviews",
    }  # fmt: skip


def test_a_status_subresource_and_a_strategy_with_status_go_together() -> None:
    for r in built_in():
        assert ("status" in r.subresources) == r.strategy.has_status, r.ref


def test_every_kind_has_a_schema_with_the_status_it_claims() -> None:
    from minikube_py.schema.definitions import load

    definitions = load()
    for r in built_in():
        for ref in (r.ref, *r.converters):
            properties = definitions.schema(ref.group, ref.version, ref.kind).properties()
            assert "metadata" in properties, ref
            if "status" in r.subresources:
                assert "status" in properties, ref


def test_every_kind_prints_as_many_cells_as_it_has_columns() -> None:
    for r in built_in():
        bare = {"apiVersion": r.ref.api_version, "kind": r.ref.kind, "metadata": {"name": "x"}}
        assert len(list(r.columns.cells(bare, 0.0))) == len(r.columns.definitions), r.ref


def test_names_follow_the_kinds_rules() -> None:
    ns, svc, role, ip = (
        resource(p, g)
        for p, g in (("namespaces", ""), ("services", ""), ("roles", "rbac.authorization.k8s.io"), ("ipaddresses", "networking.k8s.io"))
    )
    assert ns.name_rule and svc.name_rule and role.name_rule and ip.name_rule
    assert ns.name_rule("a.b") and not ns.name_rule("1a")
    assert svc.name_rule("a.b") and not svc.name_rule("1a")
    assert not role.name_rule("system:node") and role.name_rule("a/b") == "may not contain '/'"
    assert (
        ip.name_rule("10.0.0.01")
        and ip.name_rule("2001:db8:0::1") == 'must be in canonical form ("2001:db8::1")'
        and not ip.name_rule("10.0.0.1")
    )
