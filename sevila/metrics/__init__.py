"""Metrics over plain records. Each module pins one benchmark's definitions to its official numbers."""
