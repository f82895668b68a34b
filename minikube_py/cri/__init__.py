"""The container runtime, seen from the node: a client of containerd's gRPC socket, and a containerd of our own.

`client` speaks CRI (`v1/`, made from `proto/api.proto`), `events` turns the runtime's event streams into frozen values, `images` imports
image archives through containerd's native services (`native/`), `archive` makes such archives, and `containerd` configures, starts,
adopts and ends a containerd that belongs to this node alone. Errors are those of `errors`. Nothing here knows Kubernetes's API objects:
pods become sandboxes and containers in the kubelet.
"""
