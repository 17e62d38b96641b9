"""Running plans: the engine that answers texts, its modes, and an interpreter."""
