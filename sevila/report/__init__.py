"""Self-contained pages, timelines, charts and terminal tables, from plain numbers and images; knows no model."""
