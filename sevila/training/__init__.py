"""Training: the loop, the optimiser and its schedules, the state that makes a run resumable."""
