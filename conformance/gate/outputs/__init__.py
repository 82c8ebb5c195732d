"""What the gate decided, in the formats that people and other programs read: one module each, all pure functions."""
