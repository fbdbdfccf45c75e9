"""How well reputation and expected uptime do, on public data and under attack. Not in the wheel."""
