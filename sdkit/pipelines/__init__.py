"""What sdkit knows of diffusers' pipelines: which kind one is, how it is called, and what happens around one call."""
