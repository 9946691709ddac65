"""Leak audit: does a run prove, on its own files, that nothing it did looked ahead? See docs/AUDIT.md."""
