"""What a training run does between its steps."""
