"""Operations: settings, logs, metrics, health, retries, signals, failpoints and child processes."""
