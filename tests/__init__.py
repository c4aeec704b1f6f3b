"""The tests of duly: sentences about what it promises."""
