"""duly together with other libraries: each module needs what it is named after, and nothing else does."""
