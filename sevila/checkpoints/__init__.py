"""Weights on disk: heads as files of their own, and importers of other projects' checkpoints."""
