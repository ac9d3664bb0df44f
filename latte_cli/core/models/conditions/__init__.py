"""What an experiment's texts come to: its encoder, and the states that its model is told."""
