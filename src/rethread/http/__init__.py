"""The edge: bytes in, one call to the engine or the store, bytes out."""
