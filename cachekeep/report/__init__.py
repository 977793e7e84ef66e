"""What surfaces tell of metrics: health, cost, right-sizing, Prometheus. Reads monitoring, changes nothing."""
