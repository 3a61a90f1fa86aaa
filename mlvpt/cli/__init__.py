"""The command line, `mlvpt COMMAND ...`: it parses, and calls the rooms that work."""
