"""State at rest: one module a noun, functions that take the database first."""
