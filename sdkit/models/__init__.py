"""From a name to a pipeline: find, look before opening, open, and remember where it came from."""
