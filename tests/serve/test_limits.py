import pytest

from npmnv2.errors import ArgumentError
from npmnv2.serve.limits import Limits


def test_limits_are_counted_in_bytes_and_pixels() -> None:
    limits = Limits(megabytes=1.5, megapixels=0.25, held_megabytes=3)
    assert (limits.bytes, limits.pixels, limits.held_bytes) == (1_500_000, 250_000, 3_000_000)


def test_one_request_of_the_largest_size_is_always_held() -> None:
    assert Limits(megabytes=20, held_megabytes=5).held_bytes == 20_000_000


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_above_zero_and_finite(value: float) -> None:
    with pytest.raises(ArgumentError, match=r"seconds \(=.*\) must be a number above 0"):
        Limits(seconds=value)


def test_a_queue_has_room_for_one_request() -> None:
    with pytest.raises(ArgumentError, match=r"queue \(=3\) must hold the images \(=4\)"):
        Limits(images=4, queue=3)
