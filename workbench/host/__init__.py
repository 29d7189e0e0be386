"""Many groups in one process: one turn, one sync, for all of them. Sans-IO."""
