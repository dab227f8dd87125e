"""How the tiny backbone is made: its tokenizer, its lessons, its language model, its eyes."""
