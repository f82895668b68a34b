"""The node agent: brings the pods that are bound to this node up on the container runtime, and tells the API how they and the node are.

What flows through: the informer of this node's pods and the runtime's events put pod UIDs up for a sync; one worker a pod observes
(CRI → a frozen `state.PodState`), decides (`plan.compute`, pure), takes steps (`steps`), and writes the status (`status.generate`, pure)
when it changed.

Policy is in `plan`, `status`, `containers`, `env`, `dns`, `hosts`, `resources`, `restarts`, `nodestatus`, `probing` and `volumes.content`:
values in, values out. Mechanism is in the rest. What always holds: nothing decides by which event woke it; a container that runs as the
plan wants it is never touched, also not after a restart of this process; a status never goes back from a terminal phase.
"""
