"""A CUDA device that computes nothing, and every path of the library on it at real size: no GPU, no memory needed.

guard.cpp   what makes a CPU build of PyTorch believe in the device; guard.py compiles and loads it, before torch
ledger      what is counted: waits of the host, copies, kernels, operations, bytes
device      the device itself: tensors of "cuda" have a shape, a dtype and a device; those of the CPU are real
values      what the host is told when it reads from the device
stand_ins   what torch itself refuses without a GPU, or does there in one kernel
scene       model, films and questions
paths       the twenty paths of the library
faults      deliberate ones, which the counts must show
estimates   operations and memory at the published sizes, for docs/speed.md

`python tests/fake_cuda [PATH ...]` prints what they count.
"""
