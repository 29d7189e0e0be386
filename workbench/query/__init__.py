"""DuckDB SQL over catalog data. Each text lies in `sql/`, named, with bound parameters."""
