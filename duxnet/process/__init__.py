"""What a service needs around its work: settings, logs, sd_notify and signals."""
