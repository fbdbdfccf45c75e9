"""The registry in this process: commands, transactions, the visible state, and what is kept of removed nodes."""
