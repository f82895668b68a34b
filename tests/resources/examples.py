"""One sound object of every stored kind, as a client would send it."""

from __future__ import annotations

import base64
from typing import Any

from tests.resources.values import SELECTOR, TEMPLATE

CSR = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n").decode()
RULE = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
WEBHOOK = {
    "name": "check.example.com",
    "clientConfig": {"service": {"name": "hook", "namespace": "default"}},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [RULE],
}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast"}
JOB = {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "OnFailure"}}}
WORKLOAD = {"selector": SELECTOR, "template": TEMPLATE}
POD_SPEC: dict[str, Any] = {
    "serviceAccountName": "default",
    "initContainers": [{"name": "i", "image": "busybox:1", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}}],
    "containers": [
        {
            "name": "c",
            "image": "registry.example.com:5000/web",
            "command": ["/bin/web"],
            "args": ["--port=80"],
            "ports": [{"name": "http", "containerPort": 80}],
            "env": [
                {"name": "A", "value": "b"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
            ],
            "envFrom": [{"secretRef": {"name": "s"}}],
            "resources": {"limits": {"cpu": "500m", "memory": "64Mi", "example.com/gpu": "1"}, "requests": {"cpu": "0.25"}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "subPath": "x"}, {"name": "all", "mountPath": "/all", "readOnly": True}],
            "livenessProbe": {
                "httpGet": {"port": "http", "httpHeaders": [{"name": "X-A", "value": "b"}]},
                "terminationGracePeriodSeconds": 5,
            },
            "readinessProbe": {"grpc": {"port": 80}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}, "postStart": {"httpGet": {"port": 80}}},
            "securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}},
        }
    ],
    "volumes": [
        {"name": "tmp"},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                ]
            },
        },
        {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}},
    ],
    "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": {"labelSelector": SELECTOR, "topologyKey": "kubernetes.io/hostname"}}
            ]
        }
    },
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": SELECTOR}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}], "searches": ["svc.cluster.local", ".", "_sip._tcp.example.com."]},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.example.com"]}],
    "securityContext": {"fsGroup": 1000, "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]},
    "imagePullSecrets": [{"name": "regcred"}],
    "readinessGates": [{"conditionType": "example.com/ready"}],
}

EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("", "configmaps"): {"data": {"a": "b"}, "binaryData": {"c": "eA=="}},
    ("", "endpoints"): {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    ("", "events"): {
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reason": "Started",
        "message": "m",
        "type": "Normal",
    },
    ("", "limitranges"): {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]}},
    ("", "namespaces"): {},
    ("", "nodes"): {"spec": {"podCIDR": "10.42.0.0/24"}, "status": {"capacity": {"cpu": "4", "memory": "8Gi"}}},
    ("", "persistentvolumeclaims"): {"spec": CLAIM},
    ("", "persistentvolumes"): {
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "local": {"path": "/data"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]
                }
            },
        }
    },
    ("", "pods"): {"spec": POD_SPEC},
    ("", "podtemplates"): {"template": TEMPLATE},
    ("", "replicationcontrollers"): {"spec": {"replicas": 2, "template": TEMPLATE}},
    ("", "resourcequotas"): {"spec": {"hard": {"pods": "10", "requests.cpu": "4"}, "scopes": ["NotTerminating"]}},
    ("", "secrets"): {"stringData": {"password": "x"}},
    ("", "serviceaccounts"): {"automountServiceAccountToken": False},
    ("", "services"): {"spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}},
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): {
        "spec": {
            "matchConstraints": {"resourceRules": [RULE]},
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
        }
    },
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): {"spec": {"policyName": "web"}},
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): {"webhooks": [WEBHOOK]},
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): {
        "spec": {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "object.spec.replicas <= 5"}]}
    },
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): {"spec": {"policyName": "web", "validationActions": ["Deny"]}},
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): {"webhooks": [WEBHOOK]},
    ("apps", "controllerrevisions"): {"revision": 1, "data": {"spec": {}}},
    ("apps", "daemonsets"): {"spec": WORKLOAD},
    ("apps", "deployments"): {"spec": {**WORKLOAD, "replicas": 2}},
    ("apps", "replicasets"): {"spec": WORKLOAD},
    ("apps", "statefulsets"): {
        "spec": {**WORKLOAD, "serviceName": "web", "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": CLAIM}]}
    },
    ("autoscaling", "horizontalpodautoscalers"): {
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 5,
            "behavior": {"scaleDown": {}},
        }
    },
    ("batch", "cronjobs"): {"spec": {"schedule": "*/5 * * * *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": JOB}}},
    ("batch", "jobs"): {"spec": JOB},
    ("certificates.k8s.io", "certificatesigningrequests"): {
        "spec": {"request": CSR, "signerName": "example.com/s", "usages": ["client auth"]}
    },
    ("coordination.k8s.io", "leases"): {
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2023-11-14T22:12:20.000000Z"}
    },
    ("discovery.k8s.io", "endpointslices"): {
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "nodeName": "n1"}],
    },
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): {"spec": {"priorityLevelConfiguration": {"name": "global-default"}}},
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}
    },
    ("networking.k8s.io", "ingressclasses"): {"spec": {"controller": "example.com/ingress", "parameters": {"kind": "P", "name": "p"}}},
    ("networking.k8s.io", "ingresses"): {
        "spec": {
            "ingressClassName": "x",
            "tls": [{"hosts": ["*.example.com"], "secretName": "tls"}],
            "rules": [
                {
                    "host": "*.example.com",
                    "http": {
                        "paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]
                    },
                }
            ],
        }
    },
    ("networking.k8s.io", "ipaddresses"): {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}},
    ("networking.k8s.io", "networkpolicies"): {
        "spec": {"podSelector": SELECTOR, "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 80, "endPort": 90}]}]}
    },
    ("networking.k8s.io", "servicecidrs"): {"spec": {"cidrs": ["10.43.0.0/16", "fd00:43::/112"]}},
    ("node.k8s.io", "runtimeclasses"): {"handler": "runc", "overhead": {"podFixed": {"memory": "10Mi"}}},
    ("policy", "poddisruptionbudgets"): {"spec": {"maxUnavailable": "50%", "selector": SELECTOR}},
    ("rbac.authorization.k8s.io", "clusterrolebindings"): {
        "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "Group", "name": "dev"}, {"kind": "ServiceAccount", "name": "s", "namespace": "default"}],
    },
    ("rbac.authorization.k8s.io", "clusterroles"): {
        "rules": [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}, {"nonResourceURLs": ["/healthz"], "verbs": ["get"]}]
    },
    ("rbac.authorization.k8s.io", "rolebindings"): {
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "ann"}],
    },
    ("rbac.authorization.k8s.io", "roles"): {"rules": [{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"], "verbs": ["*"]}]},
    ("resource.k8s.io", "deviceclasses"): {"spec": {"selectors": [{"cel": {"expression": "true"}}]}},
    ("resource.k8s.io", "resourceclaims"): {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "web"}}]}}},
    ("resource.k8s.io", "resourceclaimtemplates"): {
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "firstAvailable": [{"name": "a", "deviceClassName": "web"}]}]}}}
    },
    ("resource.k8s.io", "resourceslices"): {
        "spec": {"driver": "d.example.com", "nodeName": "n1", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}
    },
    ("scheduling.k8s.io", "priorityclasses"): {"value": 100},
    ("storage.k8s.io", "csidrivers"): {"spec": {"tokenRequests": [{"audience": "a"}]}},
    ("storage.k8s.io", "csinodes"): {"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n1"}]}},
    ("storage.k8s.io", "csistoragecapacities"): {"storageClassName": "fast", "capacity": "10Gi"},
    ("storage.k8s.io", "storageclasses"): {"provisioner": "d.example.com"},
    ("storage.k8s.io", "volumeattachments"): {
        "spec": {"attacher": "d.example.com", "nodeName": "n1", "source": {"persistentVolumeName": "pv"}}
    },
    ("storage.k8s.io", "volumeattributesclasses"): {"driverName": "d.example.com", "parameters": {"iops": "100"}},
}
