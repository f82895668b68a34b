"""`python -m minikube_py` is `minikube-py`."""

from minikube_py.cli.main import main

main()
