"""The command line: `minikube-py server`, `kubeconfig`, `version`. One file a command; heavy imports happen inside the commands."""
