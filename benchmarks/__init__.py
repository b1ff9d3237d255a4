"""Every figure of the design beside its raw limit, measured in the same run. `python -m benchmarks --help`."""
