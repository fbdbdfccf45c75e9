"""Authentication and authorization: tokens, roles, sessions, the audit log."""
