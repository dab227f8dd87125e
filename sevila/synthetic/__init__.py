"""The embedded default: a drawn world with known keyframes, its questions and its tiny BLIP-2."""
