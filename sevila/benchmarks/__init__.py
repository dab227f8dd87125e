"""The benchmarks: one small file each, from the original annotation format to records."""
