"""What can be asked of a registry: the query, what it means, why a node fails it, how it travels."""
