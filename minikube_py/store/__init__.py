"""The revision log: etcd's place in the cluster (see api.py for the interface, sqlite.py for the embedded engine)."""
