"""How much a pipeline needs, what lies where, in what precision, and what to do when memory runs out."""
