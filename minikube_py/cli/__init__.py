"""The command line, one file a command: server, agent, token, kubeconfig, version. Heavy imports happen inside the commands."""
