"""How Pocket is made: scenes, autoencoder, tokenizer, grounding, optimiser, judge. Not used at run time."""
