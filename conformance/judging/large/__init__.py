"""Arrays that are never whole: formulas of large ones are kept as they are written, and computed piece by piece."""
