"""Training a head: what it needs of a task is in `task.Task`.

loop         the steps of a training, from the first to the last
optim        AdamW, learning-rate schedules, the options
checkpoint   the state of a run on disk, whole at any moment
device       device and precision, random generators, SIGTERM
numbers      what a step reads from the device, and its running averages
task         what is trained, in three names
"""
