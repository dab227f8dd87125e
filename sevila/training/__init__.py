"""Training a head: what it needs of a task is in `loop.Task`.

loop         the steps of a training, from the first to the last
optim        AdamW, learning-rate schedules, the options
checkpoint   the state of a run on disk, whole at any moment
device       device and precision, what several processes tell each other, random generators, SIGTERM
"""
