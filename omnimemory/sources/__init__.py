"""The outside world as records: documents, their formats and chunks, shell histories, redaction."""
