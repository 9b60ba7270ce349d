"""rethread: the Assistants API, on your own server."""

from typing import Final

__version__: Final = "0.1.0"
