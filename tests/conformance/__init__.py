"""The conformance suite, whole, on every backend."""
