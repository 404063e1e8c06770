"""What asks a model by making pictures: words taken out, words exchanged, runs continued from a step."""
