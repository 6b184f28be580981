"""Proves a deployed stack. Each module has the checks of one part, and `checks` runs them in order."""
