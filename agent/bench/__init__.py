"""Benchmarks of the machine's actual performance: short rounds in separate processes, under a deadline."""
