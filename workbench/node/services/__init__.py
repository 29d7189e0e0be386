"""The services of a node: raw bytes in, raw bytes out, our errors as statuses."""
