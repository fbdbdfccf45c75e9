"""The coordinator as a process: sockets, TLS, signals."""
