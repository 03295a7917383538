"""What a run was: where time and energy went, in tables, text and files."""
