"""Tasks: a model, its loss and its evaluation, over records and frames."""
