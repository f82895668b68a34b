"""kube-scheduler: a queue of pods, a picture of the nodes, filters and scores in one explicit order, Bindings through the API.

What flows through: pods and nodes from informers → queue.py (who is next) → decide.py (where, or why not; plugins/ one file each) →
scheduler.py (bind, events, conditions). Everything but scheduler.py is pure.
"""

from minikube_py.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
