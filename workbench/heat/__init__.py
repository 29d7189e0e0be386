"""Heat: load by time and key range, as a matrix that can be pooled and drawn."""
