"""Score ways to look inside against what is true: `python -m sdkit.pocket.truth`.

Pocket's world knows for every scene which word stands where, so explanations can be marked as right or wrong. The
design decision: sdkit is used here from outside, by the public names that a notebook uses; nothing inside it knows this.
`scenes` has what is true, `painting` the sampler, `looking` the ways, `bottleneck` concept vectors, `scoring` the marks,
and `figure` draws the table.
"""
