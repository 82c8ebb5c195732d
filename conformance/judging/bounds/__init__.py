"""Bounds: how much error correct code may make, derived for a declared way of computing."""
