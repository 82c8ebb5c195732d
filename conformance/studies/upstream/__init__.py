"""A failure as a script that needs NumPy and the framework alone, and as the text of an issue around it."""
