"""The model: a frozen BLIP-2 backbone and the two heads it hosts. Knows no dataset."""
