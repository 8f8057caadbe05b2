"""A batch through `predict` with a hand-set backend: what each item asks is what each item gets."""

import gc
import io
import weakref

import numpy as np
import pytest
from PIL import Image

from handlers.errors import GroupUnknown, ImageEmpty, ImageTooLarge, ImageUnanswerable, ImageUndecodable, OptionError
from handlers.predictor import Answer, Item, Stages, predict
from handlers.spec import GroupRule, Limits, Preprocessing
from tests.unit.references import make_reference
from tests.unit.specs import make_spec

SPEC = make_spec(
    ("dark", "light"),
    positive=("light",),
    review_from=0.4,
    review_to=0.6,
    groups=(GroupRule(name="site=north", threshold=0.9, images=30, positives=9),),
    feature_map=(1, 2, 2),
    temperature=2.0,
    limits=Limits(max_pixels=10_000),
)


class Brightness:
    """A network of one feature, brightness in quarters of the picture; the logits are -4 and +4 times its mean."""

    head = np.array([[-4.0], [4.0]], dtype=np.float32)

    def __init__(self):
        self.batches = []

    def infer(self, batch):
        self.batches.append(batch.shape)
        maps = batch.mean(axis=1).reshape(len(batch), 1, 2, 4, 2, 4).mean(axis=(3, 5))
        return maps.mean(axis=(2, 3)) @ self.head.T, maps


class Wide(Brightness):
    """The same with two features more, 2 and 0, that the logits leave out."""

    def infer(self, batch):
        logits, maps = super().infer(batch)
        return logits, np.concatenate([maps, np.full_like(maps, 2), np.zeros_like(maps)], axis=1)


def grey(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def answer_one(item: Item) -> Answer:
    (answer,) = predict([item], SPEC, Brightness())
    assert isinstance(answer, Answer)
    return answer


def test_an_answer_by_hand():
    # level 255 is brightness 1: logits -4 and 4, halved by the temperature: softmax([-2, 2]) = 1 / (1 + e^-4) for light
    answer = answer_one(Item(png(grey(255))))
    assert (answer.label, answer.decision, answer.threshold) == ("light", "flag", 0.5)
    assert answer.confidence == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    assert answer.probabilities.sum() == pytest.approx(1.0)
    assert answer.heatmap is None
    assert answer.heatmap_label is None


def test_the_bins_are_of_the_reference_that_is_given():
    reference = make_reference()
    items = [Item(png(np.pad(grey(15), ((0, 56), (0, 56), (0, 0))))), Item(grey(255)), Item(b"")]
    first, second, empty = predict(items, SPEC, Wide(), reference=reference)
    # Of a 64 x 64 picture; of one of eight pixels a side, as bright as the last bin. Their features are those of Wide.
    sides = [reference.figures.index(name) for name in ("width", "height")]
    assert [first.drift[n] for n in sides] == [1, 1]
    assert [second.drift[n] for n in sides] == [0, 0]
    assert second.drift[reference.figures.index("brightness")] == 2
    assert second.drift[reference.figures.index("score")] == 2
    assert second.drift[reference.figures.index("axis_01")] == 1  # 1 is an upper edge
    assert second.drift[reference.figures.index("axis_02")] == 2
    assert isinstance(empty, ImageEmpty)
    assert predict(items[:1], SPEC, Brightness())[0].drift is None


def test_a_bad_image_in_the_middle_answers_for_itself():
    backend = Brightness()
    items = [Item(png(grey(255))), Item(b"not an image"), Item(b""), Item(png(grey(0)))]
    first, broken, empty, last = predict(items, SPEC, backend)
    assert isinstance(broken, ImageUndecodable)
    assert isinstance(empty, ImageEmpty)
    assert first.label == "light"
    assert last.label == "dark"
    assert backend.batches == [(2, 3, 8, 8)]


def test_all_bad_never_reaches_the_network():
    backend = Brightness()
    assert [type(r) for r in predict([Item(b""), Item(b"x")], SPEC, backend)] == [ImageEmpty, ImageUndecodable]
    assert backend.batches == []


def test_no_items_no_answers():
    assert predict([], SPEC, Brightness()) == []


def test_only_who_asks_gets_a_heat_map():
    half = grey(0)
    half[:4, :4] = 255
    plain, explained, dark = predict([Item(half), Item(half, explain=True), Item(grey(0), explain=True)], SPEC, Brightness())
    assert plain.heatmap is None
    # mean brightness is -0.5: passed as dark, so the map is of the evidence for dark, which the bright quarter lacks
    assert (explained.label, explained.heatmap_label) == ("dark", "dark")
    np.testing.assert_array_equal(explained.heatmap, [[0, 1], [1, 1]])
    np.testing.assert_array_equal(dark.heatmap, np.ones((2, 2)))


def test_a_reviewed_image_shows_the_evidence_for_the_positive_label():
    half = grey(125)  # a little under the middle
    half[:4, :4] = 132
    answer = answer_one(Item(half, explain=True))
    assert answer.label == "dark"
    assert (answer.decision, answer.heatmap_label) == ("review", "light")
    np.testing.assert_array_equal(answer.heatmap, [[1, 0], [0, 0]])


def test_a_threshold_of_the_request_holds_for_its_item_alone():
    item = png(grey(140))  # brightness 0.098: light with 0.597
    default, strict = predict([Item(item), Item(item, threshold=0.9)], SPEC, Brightness())
    assert (default.decision, default.threshold) == ("review", 0.5)
    assert (strict.decision, strict.threshold) == ("review", 0.9)


def test_a_bad_threshold_is_its_items_error():
    good, bad = predict([Item(grey(255)), Item(grey(255), threshold=1.5)], SPEC, Brightness())
    assert good.decision == "flag"
    assert isinstance(bad, OptionError)


def test_a_group_has_its_own_threshold_and_an_unknown_one_is_its_items_error():
    item = png(grey(140))  # light with 0.597, in a band that reaches to 0.9 for this group
    group, both, unknown = predict(
        [Item(item, group="site=north"), Item(item, 0, 0.5, "site=north"), Item(item, group="site=south")], SPEC, Brightness()
    )
    assert (group.decision, group.threshold) == ("review", 0.9)
    assert (both.decision, both.threshold) == ("flag", 0.5)
    assert isinstance(unknown, GroupUnknown)


class Failing(Brightness):
    """A network whose logits for dark pictures are no numbers."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def infer(self, batch):
        logits, maps = super().infer(batch)
        logits[logits[:, 1] < 0, 0] = self.value
        return logits, maps


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("explain", [True, False])
def test_logits_that_are_no_numbers_are_their_items_error_and_never_a_decision(value, explain, recwarn):
    items = [Item(png(grey(level)), explain) for level in (255, 0, 255)]
    first, failed, last = predict(items, SPEC, Failing(value))
    assert isinstance(failed, ImageUnanswerable)
    assert failed.code == "image.unanswerable"
    alone = answer_one(items[0])
    for answer in (first, last):
        np.testing.assert_array_equal(answer.probabilities, alone.probabilities)
        assert answer.decision == "flag"
    assert not recwarn.list


def test_the_peak_is_in_logits_and_the_box_is_what_was_seen():
    half = grey(0)
    half[:4, :4] = 255
    answer = answer_one(Item(half, explain=True))
    # the head of dark is -4, brightness from -1 to 1: four logits where it is darkest
    assert answer.heatmap_peak == pytest.approx(4.0, abs=1e-5)
    assert answer.heatmap_box == (0.0, 0.0, 1.0, 1.0)
    assert answer_one(Item(half)).heatmap_peak is answer_one(Item(half)).heatmap_box is None


@pytest.mark.parametrize("encode", [png, np.asarray])
def test_the_box_of_a_crop_is_the_part_of_the_upright_picture_that_was_cut_out(encode):
    view = Preprocessing(height=8, width=8, fit="crop", resize=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    spec = SPEC.model_copy(update={"preprocessing": view})
    wide = np.zeros((20, 40, 3), dtype=np.uint8)  # scaled to 16 x 32, of which the middle 8 x 8 are seen
    (answer,) = predict([Item(encode(wide), explain=True)], spec, Brightness())
    assert answer.heatmap_box == (0.375, 0.25, 0.25, 0.5)


def test_with_several_positive_labels_the_map_is_of_what_drove_the_score():
    class Corners:
        """Three classes, of which each has its corner of the map."""

        head = np.eye(3, dtype=np.float32) * 3

        def infer(self, batch):
            maps = np.zeros((len(batch), 3, 2, 2), dtype=np.float32)
            maps[:, 0, 0, 0], maps[:, 1, 0, 1], maps[:, 2, 1, 1] = 4, 4, 8
            return np.tile(np.log(np.array([[0.3, 0.1, 0.6]])), (len(batch), 1)), maps

    spec = make_spec(positive=("a", "b"), threshold=0.35, feature_map=(3, 2, 2))
    (answer,) = predict([Item(grey(0), explain=True)], spec, Corners())
    assert (answer.label, answer.decision, answer.heatmap_label) == ("c", "flag", "a")
    # a quarter of the score is b's: evidence 3 * 4 * (0.75, 0.25) in logits
    assert answer.heatmap_peak == pytest.approx(9.0)
    np.testing.assert_allclose(answer.heatmap, [[1, 1 / 3], [0, 0]], rtol=1e-5)


def test_pixels_and_their_png_answer_alike():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    raw, encoded = predict([Item(pixels), Item(png(pixels))], SPEC, Brightness())
    np.testing.assert_array_equal(raw.probabilities, encoded.probabilities)


def test_pixels_obey_the_limits_too():
    (error,) = predict([Item(np.zeros((101, 100, 3), dtype=np.uint8))], SPEC, Brightness())
    assert isinstance(error, ImageTooLarge)


def test_stages_are_measured():
    stages = Stages()
    predict([Item(grey(0))], SPEC, Brightness(), stages)
    assert set(stages.seconds) == {"decode", "infer", "decide", "explain"}
    assert all(seconds >= 0 for seconds in stages.seconds.values())


class Crowded(Brightness):
    """A network that has memory for so many images at once, and says so in the words of its library."""

    def __init__(self, room, error):
        super().__init__()
        self.room = room
        self.error = error

    def infer(self, batch):
        if len(batch) > self.room:
            raise self.error
        return super().infer(batch)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_images_for_which_together_there_is_no_memory_are_answered_one_by_one(error):
    items = [Item(png(grey(255))), Item(b""), Item(png(grey(0)))]
    first, empty, last = predict(items, SPEC, Crowded(1, error))
    assert (first.label, last.label) == ("light", "dark")
    assert isinstance(empty, ImageEmpty)
    large = predict(items, SPEC, Crowded(0, error))
    assert [type(result) for result in large] == [ImageTooLarge, ImageEmpty, ImageTooLarge]


def test_another_error_of_the_network_is_not_the_image_s():
    with pytest.raises(RuntimeError, match="shape"):
        predict([Item(png(grey(0)))], SPEC, Crowded(0, RuntimeError("shape mismatch")))


def test_a_refused_image_is_let_go_without_the_garbage_collector():
    pixels = np.zeros((101, 100, 3), np.uint8)
    kept = weakref.ref(pixels)
    gc.disable()
    try:
        [error] = predict([Item(pixels)], SPEC, Brightness())
        del pixels
        assert isinstance(error, ImageTooLarge)
        assert kept() is None
    finally:
        gc.enable()
