"""Mutation testing of the stores' atomic code: see `mutants` for what is changed, `run` for the program."""
