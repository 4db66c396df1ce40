"""The server: a page to drop photos on, and an API. Nothing here is imported by anything but ``npmnv2 serve``."""
