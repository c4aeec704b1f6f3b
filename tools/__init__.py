"""Programs for those who work on duly."""
