"""Client of the nodes, sans-IO: who leads, where a key is, what may be tried again."""
