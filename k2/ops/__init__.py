"""What every package uses: settings, logs, metrics, health, retries, signals."""
