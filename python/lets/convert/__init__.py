"""From models that exist already to task packs, and back: convert a checkpoint, merge a pack."""
