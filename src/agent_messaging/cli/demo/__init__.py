"""`agent-messaging demo`. Nothing is imported here: the command must come at once, its acts import the engine."""
