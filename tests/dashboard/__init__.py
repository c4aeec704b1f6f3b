"""The dashboard, as browsers and programs use it."""
