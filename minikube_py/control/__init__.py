"""Informer, work queue and reconciler loop: how every component that follows the API is driven.

An informer keeps the frozen views of one kind up to date by list and watch; changes put keys into a work queue; workers call
`reconcile(key)`, which looks at the state (never at the event), computes a plan and applies it.
"""

from minikube_py.control.events import EventRecorder
from minikube_py.control.informer import Informer, Informers
from minikube_py.control.loop import ControlLoop, Paced, Reconciler, Watch
from minikube_py.control.queue import WorkQueue

__all__ = ["ControlLoop", "EventRecorder", "Informer", "Informers", "Paced", "Reconciler", "Watch", "WorkQueue"]
