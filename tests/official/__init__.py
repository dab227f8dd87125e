"""Outputs of the official code, and this library's answers to the same questions."""
