"""Training stages: prune, fine-tune, full fine-tuning, and fit, which runs them all."""
