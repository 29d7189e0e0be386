"""Detection, planning, proof and replay: pure functions from load to a plan document."""
