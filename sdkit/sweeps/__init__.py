"""Sweeps over settings: `axes` say what varies, `sweeping` is the verb, `folder` keeps cells, `sheet` and `page` show them."""
