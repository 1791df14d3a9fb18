"""Settings, logs, metrics, retries and health: what every room outside the rules uses."""
