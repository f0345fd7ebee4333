"""Where every service of the local stack listens."""

HOST = "127.0.0.1"
