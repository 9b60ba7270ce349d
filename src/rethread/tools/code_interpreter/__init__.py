"""code_interpreter: runs the Python that a model writes, in a session of its thread."""
