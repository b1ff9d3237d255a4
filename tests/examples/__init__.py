"""The examples of the reference documents, run as they stand there (corrected where requirements.md says so)."""
