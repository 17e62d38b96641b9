"""`lets bench`: the engine beside dense fine-tuned models; answers are checked, then timed."""
