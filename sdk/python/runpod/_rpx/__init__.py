"""How the worker works. Nothing here is for handlers to import."""
