"""What runs on a node: it probes the hardware, registers the node and reports its health."""
