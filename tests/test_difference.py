"""How different two pictures look, against published values and the axioms of a norm."""

import numpy as np
import pytest
from PIL import Image

from sdkit.walks.difference import appearance, difference, oklab


def plain(colour, size=(32, 32)):
    return appearance(Image.new("RGB", size, colour))


def test_oklab_has_the_values_of_its_definition():
    """Ottosson's own figures for the primaries, to three digits."""
    found = oklab(
        np.array(
            [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], dtype=np.uint8
        )
    )
    known = [
        [1, 0, 0],
        [0.628, 0.225, 0.126],
        [0.866, -0.234, 0.179],
        [0.452, -0.032, -0.312],
        [0, 0, 0],
    ]
    assert found == pytest.approx(np.array(known), abs=1e-3)


def test_black_and_white_are_a_hundred_apart_and_equal_pictures_nothing():
    assert difference(plain("black"), plain("white")) == pytest.approx(100, abs=0.01)
    assert difference(plain("teal"), plain("teal")) == 0


def test_it_is_a_metric():
    rng = np.random.default_rng(0)
    a, b, c = (
        appearance(Image.fromarray(rng.integers(0, 255, (24, 40, 3), dtype=np.uint8)))
        for _ in range(3)
    )
    assert difference(a, b) == pytest.approx(difference(b, a))
    assert difference(a, c) <= difference(a, b) + difference(b, c)


def test_a_change_of_the_motif_counts_more_than_noise_of_the_same_size():
    base = np.full((32, 32, 3), 128, dtype=np.int16)
    grain = np.indices((32, 32)).sum(0)[..., None] % 2 * 40 - 20
    block = np.zeros((32, 32, 1), dtype=np.int16) + 20

    def seen(change):
        return appearance(Image.fromarray((base + change).astype(np.uint8)))

    assert difference(seen(0), seen(block)) > 2 * difference(seen(0), seen(grain))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (1000, 20)])
def test_every_size_of_picture_can_be_compared(size):
    assert difference(plain("black", size), plain("white", size)) == pytest.approx(100, abs=0.01)
