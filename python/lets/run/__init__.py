"""Running tasks: executors over the frozen activations, and the engine that answers texts."""
