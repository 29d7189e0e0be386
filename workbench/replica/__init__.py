"""The state machine of one group: log entries in, engine changes and results out. Sans-IO."""
