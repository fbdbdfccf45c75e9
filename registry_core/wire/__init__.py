"""The messages between client and coordinator: request and response bodies, and problem types. No I/O, no httpx."""
