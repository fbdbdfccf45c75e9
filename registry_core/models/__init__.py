"""Frozen records of what a node is, how it fares and how it is judged. Nothing here touches the world."""
