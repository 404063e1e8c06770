"""What happens inside a run: `tracing` records it, `trace` is the data, `predictions` the formulas, `forking` goes on from a step.

Nothing is imported here: `generate` records traces, and forking needs `generate`.
"""
