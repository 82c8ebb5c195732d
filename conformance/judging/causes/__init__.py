"""What makes an answer wrong: which stage, which change of what was asked or promised, and which of its elements."""
