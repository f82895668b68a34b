"""A pod's volumes: what is in them (`content`, pure) and how they come to be on the node.

`atomic` replaces a volume's files all at once, `mounts` wraps the mount calls, `subpath` hands out parts of a volume without following
links out of it, `ownership` applies fsGroup, and `manager` puts a pod's volumes together: it is what the rest of the kubelet calls.
"""
