"""The heart of the gateway: who a client is, what its request means, and how facts become what it reads. Pure."""
