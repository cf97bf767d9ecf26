"""Events and commands that the services exchange, one module or package for each service, and nothing else."""
