"""The route catalog: its records byte for byte, its rules, and lookup by key. Pure."""
