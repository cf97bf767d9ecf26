"""What the services say to each other: events and commands, one module per speaker, and nothing else."""
