"""file_search: documents read, divided, kept, found and cited."""
