"""Who is asking and what they may do: tokens, roles, sessions, the audit log."""
