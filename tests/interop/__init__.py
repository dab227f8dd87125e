"""LAVIS and timm in an environment of their own, and this library's answers to the same questions."""
