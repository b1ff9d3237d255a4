"""Handlers: registering, looking up and running them."""
