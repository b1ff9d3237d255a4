"""The engine under every pattern: outbox, dispatcher, waiting, time, and who serves whom."""
