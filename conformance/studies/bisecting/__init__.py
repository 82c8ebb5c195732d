"""One case asked of one release of a package after another: which release changed the answer."""
