"""What every well-behaved service needs: settings sources, logs, sd_notify, signals."""
