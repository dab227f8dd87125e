"""Tables, plots and self-contained pages, from plain numbers and images; knows no model and no config."""
