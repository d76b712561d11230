"""What the dashboard asks of the store; pure reads."""
