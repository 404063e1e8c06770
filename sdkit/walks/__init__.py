"""Walks between pictures: paths and pacing are mathematics, `plan` is data, `frames` renders, `folder` and `walk` keep, `interpolation` is the verb.

Nothing is imported here: `generate` needs a path or two from inside, and the verb needs `generate`.
"""
