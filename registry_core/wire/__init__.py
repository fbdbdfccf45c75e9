"""What client and coordinator say to each other: shapes and problem types. No I/O, no httpx, no server."""
