"""What the core asks of the world, as Protocols. Implementations live in the outer layers."""
