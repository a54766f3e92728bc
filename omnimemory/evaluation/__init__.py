"""How good it is, measured on the user's own data."""
