"""duly in the frameworks themselves."""
