"""Pods: what the kubelet, the scheduler, the controllers and the service proxy read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from minikube_py.types.handlers import IntOrString as IntOrString
from minikube_py.types.handlers import Lifecycle, Probe
from minikube_py.types.meta import Condition, LabelSelector, Object, ResourceRef, View

Quantities = Mapping[str, str | int | float]


class ResourceRequirements(View, frozen=True):
    limits: Quantities = {}
    requests: Quantities = {}


class ObjectFieldSelector(View, frozen=True):
    fieldPath: str
    apiVersion: str = "v1"


class ResourceFieldSelector(View, frozen=True):
    resource: str
    containerName: str = ""
    divisor: str | int | float = "0"


class KeySelector(View, frozen=True):
    key: str
    name: str = ""
    optional: bool = False


class FileKeySelector(View, frozen=True):
    volumeName: str
    path: str
    key: str
    optional: bool = False


class EnvVarSource(View, frozen=True):
    fieldRef: ObjectFieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    configMapKeyRef: KeySelector | None = None
    secretKeyRef: KeySelector | None = None
    fileKeyRef: FileKeySelector | None = None


class EnvVar(View, frozen=True):
    name: str
    value: str = ""
    valueFrom: EnvVarSource | None = None


class EnvFromRef(View, frozen=True):
    name: str = ""
    optional: bool = False


class EnvFromSource(View, frozen=True):
    prefix: str = ""
    configMapRef: EnvFromRef | None = None
    secretRef: EnvFromRef | None = None


class ContainerPort(View, frozen=True):
    containerPort: int
    name: str = ""
    hostPort: int = 0
    hostIP: str = ""
    protocol: str = "TCP"


class VolumeMount(View, frozen=True):
    name: str
    mountPath: str
    subPath: str = ""
    subPathExpr: str = ""
    readOnly: bool = False
    mountPropagation: str = ""
    recursiveReadOnly: str = ""


class VolumeDevice(View, frozen=True):
    name: str
    devicePath: str


class Capabilities(View, frozen=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(View, frozen=True):
    type: str
    localhostProfile: str = ""


class SecurityContext(View, frozen=True):
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    runAsUser: int | None = None
    runAsGroup: int | None = None
    runAsNonRoot: bool | None = None
    readOnlyRootFilesystem: bool | None = None
    allowPrivilegeEscalation: bool | None = None
    procMount: str = ""
    seccompProfile: SeccompProfile | None = None


class Sysctl(View, frozen=True):
    name: str
    value: str


class PodSecurityContext(View, frozen=True):
    runAsUser: int | None = None
    runAsGroup: int | None = None
    runAsNonRoot: bool | None = None
    supplementalGroups: tuple[int, ...] = ()
    supplementalGroupsPolicy: str = ""
    fsGroup: int | None = None
    fsGroupChangePolicy: str = ""
    sysctls: tuple[Sysctl, ...] = ()
    seccompProfile: SeccompProfile | None = None


class ContainerRestartRuleOnExitCodes(View, frozen=True):
    operator: str
    values: tuple[int, ...] = ()


class ContainerRestartRule(View, frozen=True):
    action: str
    exitCodes: ContainerRestartRuleOnExitCodes | None = None


class ResizePolicy(View, frozen=True):
    resourceName: str
    restartPolicy: str = "NotRequired"


class Container(View, frozen=True):
    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    workingDir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    envFrom: tuple[EnvFromSource, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    resizePolicy: tuple[ResizePolicy, ...] = ()
    restartPolicy: str = ""
    restartPolicyRules: tuple[ContainerRestartRule, ...] = ()
    volumeMounts: tuple[VolumeMount, ...] = ()
    volumeDevices: tuple[VolumeDevice, ...] = ()
    livenessProbe: Probe | None = None
    readinessProbe: Probe | None = None
    startupProbe: Probe | None = None
    lifecycle: Lifecycle | None = None
    terminationMessagePath: str = "/dev/termination-log"
    terminationMessagePolicy: str = "File"
    imagePullPolicy: str = ""
    securityContext: SecurityContext | None = None
    stdin: bool = False
    stdinOnce: bool = False
    tty: bool = False
    targetContainerName: str = ""


class KeyToPath(View, frozen=True):
    key: str
    path: str
    mode: int | None = None


class ConfigMapSource(View, frozen=True):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    defaultMode: int | None = None
    optional: bool = False


class SecretSource(View, frozen=True):
    secretName: str = ""
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    defaultMode: int | None = None
    optional: bool = False


class EmptyDirSource(View, frozen=True):
    medium: str = ""
    sizeLimit: str | int | float | None = None


class HostPathSource(View, frozen=True):
    path: str
    type: str = ""


class DownwardAPIFile(View, frozen=True):
    path: str
    fieldRef: ObjectFieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardAPISource(View, frozen=True):
    items: tuple[DownwardAPIFile, ...] = ()
    defaultMode: int | None = None


class ServiceAccountTokenProjection(View, frozen=True):
    path: str
    audience: str = ""
    expirationSeconds: int = 3600


class VolumeProjection(View, frozen=True):
    secret: SecretSource | None = None
    configMap: ConfigMapSource | None = None
    downwardAPI: DownwardAPISource | None = None
    serviceAccountToken: ServiceAccountTokenProjection | None = None


class ProjectedSource(View, frozen=True):
    sources: tuple[VolumeProjection, ...] = ()
    defaultMode: int | None = None


class ImageSource(View, frozen=True):
    reference: str = ""
    pullPolicy: str = ""


class ClaimSource(View, frozen=True):
    claimName: str
    readOnly: bool = False


class EphemeralSource(View, frozen=True):
    """A claim of the pod's own: PersistentVolumeClaim `<pod>-<volume>`, made by a controller from a template."""


class Volume(View, frozen=True):
    name: str
    emptyDir: EmptyDirSource | None = None
    hostPath: HostPathSource | None = None
    configMap: ConfigMapSource | None = None
    secret: SecretSource | None = None
    downwardAPI: DownwardAPISource | None = None
    projected: ProjectedSource | None = None
    image: ImageSource | None = None
    persistentVolumeClaim: ClaimSource | None = None
    ephemeral: EphemeralSource | None = None


class Toleration(View, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    tolerationSeconds: int | None = None


class NodeSelectorRequirement(View, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(View, frozen=True):
    matchExpressions: tuple[NodeSelectorRequirement, ...] = ()
    matchFields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(View, frozen=True):
    nodeSelectorTerms: tuple[NodeSelectorTerm, ...] = ()


class PreferredSchedulingTerm(View, frozen=True):
    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(View, frozen=True):
    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector | None = None
    preferredDuringSchedulingIgnoredDuringExecution: tuple[PreferredSchedulingTerm, ...] = ()


class PodAffinityTerm(View, frozen=True):
    topologyKey: str
    labelSelector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespaceSelector: LabelSelector | None = None


class WeightedPodAffinityTerm(View, frozen=True):
    weight: int
    podAffinityTerm: PodAffinityTerm


class PodAffinity(View, frozen=True):
    requiredDuringSchedulingIgnoredDuringExecution: tuple[PodAffinityTerm, ...] = ()
    preferredDuringSchedulingIgnoredDuringExecution: tuple[WeightedPodAffinityTerm, ...] = ()


class Affinity(View, frozen=True):
    nodeAffinity: NodeAffinity | None = None
    podAffinity: PodAffinity | None = None
    podAntiAffinity: PodAffinity | None = None


class TopologySpreadConstraint(View, frozen=True):
    """matchLabelKeys is not here: the API server merges it into the selector."""

    maxSkew: int
    topologyKey: str
    whenUnsatisfiable: str = "DoNotSchedule"
    labelSelector: LabelSelector | None = None
    minDomains: int = 1
    nodeAffinityPolicy: str = "Honor"
    nodeTaintsPolicy: str = "Ignore"


class HostAlias(View, frozen=True):
    ip: str
    hostnames: tuple[str, ...] = ()


class DNSOption(View, frozen=True):
    name: str = ""
    value: str | None = None


class PodDNSConfig(View, frozen=True):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[DNSOption, ...] = ()


class ReadinessGate(View, frozen=True):
    conditionType: str


class SchedulingGate(View, frozen=True):
    name: str


class LocalObjectReference(View, frozen=True):
    name: str = ""


class PodOS(View, frozen=True):
    name: str = ""


class PodSpec(View, frozen=True):
    containers: tuple[Container, ...] = ()
    initContainers: tuple[Container, ...] = ()
    ephemeralContainers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restartPolicy: str = "Always"
    terminationGracePeriodSeconds: int | None = None
    activeDeadlineSeconds: int | None = None
    dnsPolicy: str = "ClusterFirst"
    dnsConfig: PodDNSConfig | None = None
    nodeSelector: Mapping[str, str] = {}
    serviceAccountName: str = ""
    automountServiceAccountToken: bool | None = None
    nodeName: str = ""
    hostNetwork: bool = False
    hostPID: bool = False
    hostIPC: bool = False
    hostUsers: bool | None = None
    shareProcessNamespace: bool = False
    securityContext: PodSecurityContext = PodSecurityContext()
    imagePullSecrets: tuple[LocalObjectReference, ...] = ()
    hostname: str = ""
    hostnameOverride: str | None = None
    subdomain: str = ""
    setHostnameAsFQDN: bool = False
    affinity: Affinity | None = None
    topologySpreadConstraints: tuple[TopologySpreadConstraint, ...] = ()
    schedulerName: str = "default-scheduler"
    tolerations: tuple[Toleration, ...] = ()
    hostAliases: tuple[HostAlias, ...] = ()
    priorityClassName: str = ""
    priority: int | None = None
    readinessGates: tuple[ReadinessGate, ...] = ()
    schedulingGates: tuple[SchedulingGate, ...] = ()
    runtimeClassName: str = ""
    enableServiceLinks: bool = True
    overhead: Quantities = {}
    preemptionPolicy: str = ""
    resources: ResourceRequirements | None = None
    os: PodOS | None = None


class ContainerStateWaiting(View, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(View, frozen=True):
    startedAt: str | None = None


class ContainerStateTerminated(View, frozen=True):
    exitCode: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    startedAt: str | None = None
    finishedAt: str | None = None
    containerID: str = ""


class ContainerState(View, frozen=True):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(View, frozen=True):
    name: str
    state: ContainerState = ContainerState()
    lastState: ContainerState = ContainerState()
    ready: bool = False
    started: bool | None = None
    restartCount: int = 0
    image: str = ""
    imageID: str = ""
    containerID: str = ""
    resources: ResourceRequirements | None = None
    allocatedResources: Quantities = {}


class PodIP(View, frozen=True):
    ip: str = ""


class PodStatus(View, frozen=True):
    phase: str = "Pending"
    conditions: tuple[Condition, ...] = ()
    message: str = ""
    reason: str = ""
    nominatedNodeName: str = ""
    hostIP: str = ""
    hostIPs: tuple[PodIP, ...] = ()
    podIP: str = ""
    podIPs: tuple[PodIP, ...] = ()
    startTime: str | None = None
    initContainerStatuses: tuple[ContainerStatus, ...] = ()
    containerStatuses: tuple[ContainerStatus, ...] = ()
    ephemeralContainerStatuses: tuple[ContainerStatus, ...] = ()
    qosClass: str = ""
    resources: ResourceRequirements | None = None
    allocatedResources: Quantities = {}
    observedGeneration: int = 0


class Pod(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "pods", "Pod")
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


def is_terminal(pod: Pod) -> bool:
    """Whether the pod has ended for good."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_ready(pod: Pod) -> bool:
    """Whether the pod's Ready condition is True."""
    for condition in pod.status.conditions:
        if condition.type == "Ready":
            return condition.status == "True"
    return False
