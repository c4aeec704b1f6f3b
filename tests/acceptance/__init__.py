"""duly as its users run it: real processes, a real server, and what handlers leave outside."""
