import numpy as np
import pytest
import torch

from training.config import ViewsConfig
from training.fitting.views import Views

STILL = {"crop": 1, "flip_horizontal": False, "jitter": 0, "grayscale": 0, "blur": 0}
LUMA = np.array([0.299, 0.587, 0.114])


def picture(side=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def views(image, count=1, **options):
    made = Views(ViewsConfig(**{**STILL, **options}), *image.shape[:2])
    return [made.view(image, 7, number) for number in range(count)]


def test_a_view_hangs_on_its_seed_alone_and_leaves_the_image_alone():
    made, image = Views(ViewsConfig(), 12, 12), picture()
    before = image.copy()
    first, other = made.view(image, 3, 1), made.view(image, 3, 2)
    torch.manual_seed(5)
    assert np.array_equal(made.view(image, 3, 1), first)
    assert not np.array_equal(first, other)
    assert np.array_equal(image, before)
    assert (first.shape, first.dtype) == ((12, 12, 3), np.uint8)


def test_nothing_enabled_changes_nothing():
    assert np.array_equal(views(picture())[0], picture())


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"flip_horizontal": True}, 2),
        ({"flip_vertical": True}, 2),
        ({"quarter_turns": True}, 4),
        ({"flip_horizontal": True, "flip_vertical": True, "quarter_turns": True}, 8),
    ],
)
def test_flips_and_quarter_turns_are_a_squares_symmetries(options, count):
    image = picture()
    symmetries = [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)]
    seen = [[n for n, option in enumerate(symmetries) if np.array_equal(option, view)] for view in views(image, 64, **options)]
    assert all(seen)
    assert len({names[0] for names in seen}) == count


def test_a_picture_that_is_no_square_is_turned_upside_down_alone():
    image = np.zeros((8, 16, 3), np.uint8)
    image[0] = 200  # its upper edge, at 8 pixels' height a whole row
    # A crop of another form than a square's is chosen by the image's sides, so the whole may be cut a little.
    made = Views(ViewsConfig(**{**STILL, "quarter_turns": True}), 8, 16)
    tops = {bool(view[:2].max() > view[-2:].max()) for view in (made.view(image, 7, n) for n in range(16))}
    assert tops == {True, False}
    assert made.view(image, 0).shape == image.shape


def test_a_crop_keeps_at_least_its_share_of_the_area():
    across, down = np.meshgrid(np.arange(60.0), np.arange(60.0))
    image = np.stack([4 * across, 4 * down, 0 * down], axis=2).astype(np.uint8)  # a pixel's colour is its place
    shares = []
    for view in views(image, 64, crop=0.3):
        width, height = (np.ptp(view[..., channel].astype(float)) / 4 + 1 for channel in (0, 1))
        shares.append(width * height / 3600)
    assert 0.27 < min(shares) < 0.45
    assert 0.75 < max(shares) <= 1


def test_grey_is_the_luma_of_every_channel():
    (view,) = views(picture(), grayscale=1)
    assert np.abs(view - (picture() @ LUMA)[..., None]).max() <= 1


def test_brightness_is_a_factor_within_its_bounds():
    image = np.full((4, 4, 3), 100, np.uint8)
    values = [int(view[0, 0, 0]) for view in views(image, 64, jitter=1, brightness=0.4, contrast=0, saturation=0, hue=0)]
    assert 60 <= min(values) < 70
    assert 130 < max(values) <= 140


def test_blur_keeps_the_mean_and_takes_the_edges():
    image = np.tile(np.array([[0, 200]], np.uint8).repeat(20, axis=1)[..., None], (40, 1, 3))
    sharp, blurred = image[20, 18:22, 0], [view[20, 18:22, 0] for view in views(image, 8, blur=1, blur_sigma=0.1)]
    assert sharp.tolist() == [0, 0, 200, 200]
    assert all(90 < view[1:3].astype(float).mean() < 110 for view in blurred)
    assert max(int(view[1]) for view in blurred) > 50


@pytest.mark.parametrize(("option", "share"), [("jitter", 0.8), ("grayscale", 0.2), ("blur", 0.3)])
def test_changes_come_as_often_as_the_config_says(option, share):
    image = picture()
    options = {option: share, **({"blur_sigma": 0.1} if option == "blur" else {})}
    changed = np.mean([not np.array_equal(view, image) for view in views(image, 200, **options)])
    assert changed == pytest.approx(share, abs=0.1)
