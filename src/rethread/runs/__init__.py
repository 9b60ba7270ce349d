"""The engine: what a run is, what may be asked of it, and how it is driven to its next rest."""
