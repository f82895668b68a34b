"""kube-apiserver: bytes in, decisions by authentication, authorization, schema, admission and strategy, bytes out.

The life of a write: decode → default → managedFields → mutating admission → strategy → validation → validating admission → store → cache
→ watchers. api.py has the types that pass between these steps.
"""
