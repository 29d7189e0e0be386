"""Widgets for notebooks: one thin widget per view model; what decides is in session and report."""
