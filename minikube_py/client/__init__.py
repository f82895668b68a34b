"""The one API client, with two transports: HTTP (http.py) and, from the API server, in-process.

Components see only `Client`; which transport carries it is the composition root's business. Either way a call is authenticated,
authorized, admitted and validated, and crosses a bytes boundary.
"""

from minikube_py.client.client import Client, ListResult, Patch, WatchEvent
from minikube_py.client.transport import Answer, Transport

__all__ = ["Answer", "Client", "ListResult", "Patch", "Transport", "WatchEvent"]
