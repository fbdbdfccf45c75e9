"""Following many nodes: one clock, mass failures."""
