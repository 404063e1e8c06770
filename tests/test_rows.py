"""What lies between encodings of different length and make-up."""

import pytest
import torch

from sdkit.pipelines.beginnings import between
from sdkit.pipelines.rows import arrived, rows_between, shares
from sdkit.walks.paths import align


def line(t):
    return lambda ends: torch.lerp(ends[0], ends[1], t)


def rows(*lengths, of):
    return [torch.arange(of) < length for length in lengths]


def test_shares_are_those_of_the_corners():
    assert shares(()) == [1.0]
    assert shares((0.25,)) == [0.75, 0.25]
    assert shares((0.5, 0.25)) == pytest.approx([0.375, 0.125, 0.375, 0.125])


@pytest.mark.parametrize(
    ("t", "count"), [(0, 2), (1e-3, 2), (0.3, 3), (0.5, 4), (0.999, 6), (1, 6)]
)
def test_rows_come_one_by_one_and_both_ends_are_reached(t, count):
    found = arrived(rows(2, 6, of=8), shares((t,)))
    assert found.tolist() == (torch.arange(8) < count).tolist()
    back = arrived(rows(6, 2, of=8), shares((1 - t,)))
    assert back.tolist() == found.tolist()


def test_where_padding_stands_on_the_left_rows_come_from_the_right():
    there = [row.flip(0) for row in rows(2, 6, of=8)]
    assert arrived(there, shares((0.3,))).tolist() == [False] * 5 + [True] * 3


def test_four_corners_reach_each_of_theirs():
    there = rows(1, 3, 5, 8, of=8)
    for corner, at in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(arrived(there, shares(at)), there[corner])


def test_a_row_of_one_end_is_whole_when_it_is_there_and_the_others_before():
    a, b = torch.zeros(1, 4, 2), torch.ones(1, 4, 2)
    a[0, :2], a[0, 2:] = 5.0, -1.0  # two words, and padding that says something else
    there = rows(2, 4, of=4)
    found = rows_between(line(0.3), [a, b], there, shares((0.3,)))
    torch.testing.assert_close(found[0, :2], torch.full((2, 2), 0.7 * 5 + 0.3))
    torch.testing.assert_close(found[0, 2], torch.ones(2))  # b's word, come already
    torch.testing.assert_close(found[0, 3], torch.full((2,), -1.0))  # still a's padding


def test_equal_lengths_are_joined_as_before():
    a, b = torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    found = rows_between(line(0.3), [a, b], rows(4, 4, of=4), shares((0.3,)))
    assert torch.equal(found, torch.lerp(a, b, 0.3))


def test_only_rows_that_all_have_change_places():
    a, b = torch.eye(4)[None], torch.eye(4)[None].flip(1)
    some = torch.tensor([True, True, False, False])
    _, matched = align([a, b], some)
    assert torch.equal(matched[0, 2:], b[0, 2:])
    assert sorted(matched[0, :2].tolist()) == sorted(b[0, :2].tolist())


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_lists_masks_lengths_and_what_is_no_tensor(t):
    """As Z-Image (lists), Kandinsky 5 (lengths) and others (masks) give them."""
    a = ([torch.full((2, 3), 1.5)], torch.tensor([[1, 1, 0, 0]]), torch.tensor([0, 2]), None, "a")
    b = ([torch.full((4, 3), 2.5)], torch.tensor([[1, 1, 1, 1]]), torch.tensor([0, 4]), None, "b")
    words, mask, length, nothing, text = between(line(t), [a, b], shares((t,)))
    count = {0.0: 2, 0.4: 3, 1.0: 4}[t]
    assert isinstance(words, list)
    assert words[0].shape == (count, 3)
    torch.testing.assert_close(words[0][:2], torch.full((2, 3), 1.5 + t))
    assert (words[0][2:] == 2.5).all()
    assert mask.tolist() == [[1] * count + [0] * (4 - count)]
    assert mask.dtype == torch.int64
    assert length.tolist() == [0, count]
    assert (nothing, text) == (None, "a")


def test_what_is_equal_and_ids_that_grow_stay_what_they_are():
    ids, longer = torch.zeros(3, 3), torch.zeros(5, 3)
    longer[:, 1] = torch.arange(5)
    ids[:, 1] = torch.arange(3)
    assert between(line(0.5), [ids, ids], shares((0.5,))) is ids
    grown = between(line(0.5), [ids, longer], shares((0.5,)))
    assert torch.equal(grown, longer[:4])


def test_half_precision_is_kept():
    a, b = torch.randn(1, 4, 2).half(), torch.randn(1, 4, 2).half()
    assert between(line(0.5), [a, b], shares((0.5,))).dtype == torch.float16
