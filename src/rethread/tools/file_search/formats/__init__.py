"""How files are read: one module a family of formats, each with a function `read`."""
