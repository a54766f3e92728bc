"""Moving a store to another model."""
