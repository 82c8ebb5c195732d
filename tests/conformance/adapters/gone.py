"""An implementation whose framework is nowhere."""


class Gone:
    """It is listed, and cannot be made."""

    statement = {"id": "gone.bn", "packages": [], "documentation": "", "conventions": {}}

    def __init__(self, device):
        """Import the framework."""
        import no_such_framework  # noqa: F401


IMPLEMENTATIONS = [Gone]
