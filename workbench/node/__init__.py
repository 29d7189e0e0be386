"""The bundled node: the process that serves groups of a range-sharded store on one machine."""
