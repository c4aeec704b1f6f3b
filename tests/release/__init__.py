"""The release: built, installed where nothing else is, and tried as a new user would."""
