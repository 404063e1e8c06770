"""Where did each word look: attention captured beside a run, read by words, and edited.

Data flows one way: `layers` finds what can be read, `capture` hooks it, `record` sums, `maps` answers; `concepts` looks for
words that are not in the prompt. `generate` uses these; `ablation` and `editing` use `generate`. So nothing is imported here.
"""
