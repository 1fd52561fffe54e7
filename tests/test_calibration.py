"""Calibration: temperature, its error and the limit by hand; scribbles as a network sees them."""

import math

import numpy as np
import pytest

from hwr_utils import files
from hwr_utils.device import calibration
from hwr_utils.device.recognizer import Rejector, features, softmax
from hwr_utils.synthesis import hanzi, medians, scribbles
from hwr_utils.synthesis import strokes as typed
from hwr_utils.synthesis.strokes import strokes_for


def logits_of(n: int, wrong: int, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, 2) that name class 0 with the same certainty each time, and labels of which some are 1."""
    logits = np.zeros((n, 2), np.float32)
    logits[:, 0] = high
    return logits, (np.arange(n) < wrong).astype(np.int64)


@pytest.mark.parametrize(("wrong", "high"), [(25, 4.0), (25, 0.5), (10, 8.0), (40, 1.0)])
def test_the_temperature_makes_scores_true(wrong: int, high: float) -> None:
    """Where all logits are alike, the best score is the share of right answers: 1 / (1 + exp(-high / T)) = share."""
    logits, labels = logits_of(100, wrong, high)
    heat = calibration.temperature(logits, labels)
    assert heat == pytest.approx(high / math.log((100 - wrong) / wrong), abs=2e-4)
    right = labels == 0
    best = softmax(logits, heat).max(axis=1)
    assert best[0] == pytest.approx(right.mean(), abs=1e-4)
    assert calibration.calibration_error(best, right) < 1e-4


def test_the_calibration_error_by_hand() -> None:
    scores, right = np.array([0.95] * 4 + [0.55] * 2), np.array([1, 1, 1, 0, 1, 0], bool)
    assert calibration.calibration_error(scores, right, 10) == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert calibration.calibration_error(np.ones(5), np.ones(5, bool)) == 0  # 1 is in the last bin
    assert calibration.calibration_error(np.ones(5), np.zeros(5, bool)) == 1
    scores, right = np.array([0.5, 0.9]), np.array([True, False])  # in one bin they make up for each other
    assert calibration.calibration_error(scores, right, 1) == pytest.approx(0.2)
    assert calibration.calibration_error(scores, right, 10) == pytest.approx((0.5 + 0.9) / 2)


def test_the_limit_declines_no_more_than_its_share() -> None:
    def limit(scores: np.ndarray, share: float) -> float:
        return -calibration.limited(Rejector(np.zeros(16), np.zeros((1, 28)), np.zeros(2)), scores, share).output[0]

    scores = np.arange(100) / 100
    assert limit(scores[::-1], 0.02) == 0.02  # 0 and 0.01 are below
    assert limit(scores[:49], 0.02) == 0  # of 49 not one may be
    assert limit(np.full(100, 0.7), 0.5) == 0.7  # none of equal ones is below
    found = limit(np.linspace(0.123456, 1, 1000), 0.02)
    assert found == round(found, 4) and (np.linspace(0.123456, 1, 1000) < found).mean() <= 0.02


def declined(rejector: Rejector, rows: np.ndarray) -> float:
    return float((rejector.judge(rows) < 0).mean())


def test_features_by_hand() -> None:
    image = np.zeros((4, 4), np.uint8)
    image[1:3, 1] = 255  # two pixels, one above the other: an edge of two on either side, and four corners
    found = features(np.array([1.0, 3.0, -2.0]), image)
    assert found[:16].tolist() == [1, 3, -2, 1, 9, 4, 3, 1, *[-2] * 8]
    sides, corners = 2 * 510, 4 * 255 * np.sqrt(2)
    cosines = np.array([sides, sides - corners, sides + corners]) / (sides + corners + 1)  # corners: 0, -1 and 1
    drawn = np.array([0.5, 1 + np.sqrt(2), *cosines, 0, 0, 0])
    assert found[16:] == pytest.approx(np.concatenate([drawn, drawn**2]), abs=1e-12)
    both = features(np.array([[0.0, 1.0, 2.0], [1.0, 3.0, -2.0]]), np.stack([np.zeros_like(image), image]))
    assert both.shape == (2, 32) and both[1].tolist() == found.tolist() and not both[0, 16:].any()


def test_a_slanted_edge_has_its_angle() -> None:
    """Of a picture that grows brighter two to the right for each one down; mirrored, the sines keep their size."""
    image = (np.arange(8) * 4 + np.arange(8)[:, None] * 2).astype(np.uint8)
    angle = np.arctan2(1, 2)
    ways = [*(np.cos(n * angle) for n in (2, 4, 8)), *(abs(np.sin(n * angle)) for n in (2, 4, 8))]
    for one in (image, image[:, ::-1]):
        assert features(np.zeros(2), one)[16:22] == pytest.approx(ways, rel=0.01)


def test_a_rejector_declines_by_hand() -> None:
    """One unit sees how far what the logits say is above 1, another sees the ink alone; 4 of both are needed."""
    weights, hidden = np.zeros(16), np.zeros((2, 28))
    weights[:3] = 1, 2, 0  # of three classes' logits
    hidden[0, :2] = -1, 1
    hidden[1, 12] = 2
    rejector = Rejector(weights, hidden, np.array([-4.0, 1, 1]))
    row = np.zeros((3, 32))
    row[:, :3], row[:, 16] = [(3, 1, 9), (3, 1, 9), (0, -5, 9)], (0, 0.5, 2)
    assert rejector.judge(row).tolist() == [0, 1, 0]  # 5 - 1 - 4; with 1 of ink; only 4 of ink


def test_a_rejector_tells_what_no_line_can() -> None:
    """Characters in a ring of two features that it looks at twice, and scribbles within."""
    rng = np.random.default_rng(3)
    angle, noise = rng.uniform(0, 2 * np.pi, 1200), rng.normal(size=(1200, 32))
    noise[:, -2:] = 0.1 * noise[:, -2:] + np.stack([np.cos(angle), np.sin(angle)], axis=1) * 2
    noise[800:, -2:] *= 0.2
    rejector, judged = calibration.fit_rejector(noise[:400], noise[400:600], noise[800:1000])
    rejector = calibration.limited(rejector, judged, 0.03)
    assert declined(rejector, noise[600:800]) < 0.1 and declined(rejector, noise[1000:]) > 0.9
    again = calibration.limited(*calibration.fit_rejector(noise[:400], noise[400:600], noise[800:1000]), 0.03)
    assert all(np.array_equal(one, vars(again)[name]) for name, one in vars(rejector).items())


def test_a_rejector_declines_few_characters_even_where_scribbles_are_alike() -> None:
    """It could have declined the half of both; the limit is of characters that a classifier did not learn from.

    With 100 features of noise it tells the 400 characters that it learned from better than any others.
    """
    rng = np.random.default_rng(99)
    known, drawn, others = (rng.normal(size=(n, 100)) for n in (400, 200, 4000))
    fitted = calibration.fit_rejector(known, np.empty((0, 100)), drawn)
    few, more = (calibration.limited(*fitted, share) for share in (0.03, 0.2))
    assert declined(few, known) < 0.03 and declined(few, others) < 0.06
    assert 0.15 < declined(more, others) < 0.3


@pytest.mark.parametrize(("told", "share"), [(0.01, 0.02), (0.0225, 0.025), (0.5, 0.03)])
def test_few_characters_are_declined_where_nine_in_ten_scribbles_are(told: float, share: float) -> None:
    """A rejector that repeats the first feature; of the characters that it judged, a share s lies below s."""
    weights, hidden = np.zeros(16), np.zeros((1, 28))
    weights[0] = hidden[0, 1] = 1
    fitted = Rejector(weights, hidden, np.array([0.0, 1.0])), np.linspace(0, 1, 10_001)
    rows = np.zeros((10, 32))
    rows[:, 0] = [0.9, *[told] * 9]
    drawn = dict.fromkeys(scribbles.KINDS, rows)
    assert calibration._share_to_decline(dict.fromkeys(drawn, fitted), drawn) == share


def test_classes_that_the_project_cannot_draw_are_calibrated_too(few_scribbles: None) -> None:
    """Greek letters and words have no strokes to draw; the rest of the calibration needs none."""
    assert calibration.drawable(["3", "α", "dog", "中", "all"]) == ["3", "中"]
    images = np.zeros((90, 28, 28), np.uint8)
    for number, image in enumerate(images):
        image[8:20, 6 + number % 10 : 9 + number % 10] = 255
    labels = np.arange(90) % 10 // 5
    form = {"size": 28, "margin": 4, "centre": "box"}

    def predict(seen: np.ndarray) -> np.ndarray:
        return np.stack([seen[:, :, side].mean((1, 2)) for side in (slice(14), slice(14, 28))], 1).astype(np.float32)

    found, rejector = calibration.measure(
        predict, form, ["α", "dog"], (images, labels), (images, predict(images), labels)
    )
    assert found["temperature"] > 0 and found["declined"]["test"] < 0.5
    assert rejector.judge(features(predict(images), images)).shape == (90,)


def test_straight_strokes_meet() -> None:
    left, top = np.array([[0.1, 0.1], [0.14, 0.95]]), np.array([[0.15, 0.08], [0.9, 0.12], [0.85, 0.9]])
    bottom = np.array([[0.18, 0.88], [0.8, 0.9]])
    a, b, c = typed.straight([left, top, bottom])
    for end, line in ((a[0], b), (a[1], c), (b[-1], c), (c[0], a), (c[1], b)):
        assert np.hypot(*(typed._nearest(end, line) - end)) < 0.02, "all corners are closed"
    apart = [left, np.add(left, (0.5, 0))]
    assert all(np.array_equal(one, again) for one, again in zip(typed.straight(apart), apart, strict=True))


def test_a_mouse_draws_closed_boxes() -> None:
    """Its sides become upright and level, one that ends within goes on to the next side, and corners have no feet."""
    left, around = np.array([[0.05, 0.1], [0.25, 0.93]]), np.array([[0.1, 0.12], [0.9, 0.08], [0.88, 0.9]])
    middle, bottom = np.array([[0.15, 0.51], [0.65, 0.49]]), np.array([[0.2, 0.88], [0.8, 0.88]])
    free, beside = np.array([[0.4, 0.3], [0.6, 0.3]]), np.array([[1.1, 0.5], [1.3, 0.5]])
    dot = np.array([[0.45, 0.6], [0.55, 0.7]])
    found = typed.straight([left, around, middle, bottom, free, beside, dot], square=True)
    wanted = (
        [[0.15, 0.1], [0.15, 0.88]],
        [[0.15, 0.1], [0.89, 0.1], [0.89, 0.88]],
        [[0.15, 0.5], [0.89, 0.5]],
        [[0.15, 0.88], [0.89, 0.88]],
        [[0.4, 0.3], [0.6, 0.3]],
        [[1.1, 0.5], [1.3, 0.5]],
        [[0.45, 0.6], [0.55, 0.7]],
    )
    assert [one.tolist() for one in found] == [pytest.approx(np.array(one)) for one in wanted]


def test_the_pen_is_measured() -> None:
    images = np.zeros((3, 40, 40), np.uint8)
    images[0, 5:35, 10:13] = 255  # 3 of 30
    images[1, 10:13, 5:35] = images[1, 5:35, 10:13] = 255
    assert calibration.pen(images[:1]) == pytest.approx(0.1, rel=0.1)
    assert calibration.pen(images[1:2]) == pytest.approx(0.1, rel=0.1)
    rows, columns = np.mgrid[:40, :40] - 19.5
    images[2] = 255 * np.clip(2.5 - np.abs(np.hypot(rows, columns) - 12), 0, 1)  # a ring with soft edges, 4 of 28
    assert calibration.pen(images[2:]) == pytest.approx(4 / 28, rel=0.1)
    assert calibration.pen(images) == calibration.pen(images[1:2])  # the middle one
    assert calibration.pen(images[:0]) == calibration.pen(np.zeros((2, 9, 9), np.uint8)) == 0.1  # nothing to see


def test_scribbles_are_the_same_everywhere() -> None:
    drawn = scribbles.draw(2 * len(scribbles.KINDS), 0)
    content = b"".join(stroke.astype("<f8").tobytes() for strokes in drawn for stroke in strokes)
    assert files.sha256(content)[:16] == "d55aa5ea31047ef3"
    for strokes, again in zip(drawn, scribbles.draw(7, 0), strict=False):  # fewer are the first of the same
        assert all(np.array_equal(a, b) for a, b in zip(strokes, again, strict=True))
    assert not np.array_equal(scribbles.draw(1, 1)[0][0], drawn[0][0])


def test_strangers_are_of_other_scripts_and_unlike_what_is_known() -> None:
    strange = set(calibration.strangers("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    assert {"3", "4", "7", "あ"} <= strange and not strange & set("01256890abcXYZ")
    strange = set(calibration.strangers("0123456789"))
    assert {"A", "k", "あ"} <= strange and not strange & set("Ooil0123456789")


def test_a_hand_bends_strokes_and_leaves_them_what_they_are() -> None:
    """A cross stays one: two strokes of 16 points, one rather level and one rather steep, of lengths that vary."""
    cross = [np.array([[0.0, 50], [100, 50]]), np.array([[50.0, 0], [50, 100]])]
    drawn = [hanzi.in_a_hand(cross, 5, writer) for writer in range(30)]
    assert all(stroke.shape == (16, 2) for strokes in drawn for stroke in strokes)
    spans = np.array([[np.ptp(stroke, axis=0) for stroke in strokes] for strokes in drawn])  # (30, 2, 2)
    assert (spans[:, 0, 0] > spans[:, 0, 1]).all() and (spans[:, 1, 1] > spans[:, 1, 0]).all()
    assert 0.05 < spans[:, 0, 0].std() / spans[:, 0, 0].mean() < 0.5
    assert np.array_equal(hanzi.in_a_hand(cross, 5, 7)[0], drawn[7][0])


def test_characters_are_written_and_some_are_a_dot() -> None:
    drawn = calibration.written(["3", "啊"], 400, 0, dots=0.05)
    assert 5 < sum(sum(map(len, strokes)) == 1 for strokes in drawn) < 50
    assert {len(strokes) for strokes in drawn} >= {1, 10}, "啊 has ten strokes"
    simple = calibration.written(["3", "二"], 400, 0, simple=True)
    assert 335 < sum(len(strokes) == 1 for strokes in simple) < 375, "eight in nine"
    shapes = {np.concatenate(one).tobytes() for one in (*strokes_for("3"), list(medians.read("二").paths))}
    printed = [np.concatenate(one).tobytes() in shapes for one in simple]
    assert all(printed[::5]) and sum(printed) == 80
    again = calibration.written(["3", "啊"], 400, 0, dots=0.05)
    assert all(np.array_equal(np.concatenate(a), np.concatenate(b)) for a, b in zip(drawn, again, strict=True))


def test_a_mouse_keeps_the_corners_of_a_stroke_and_no_more() -> None:
    across, down = np.linspace(0, 1, 21), np.zeros(21)
    corner = np.concatenate([np.column_stack([across, down]), np.column_stack([down + 1, across])])
    shaken = corner + 0.02 * np.sin(np.arange(len(corner)))[:, None]  # less than is kept
    assert typed.straightened(corner).tolist() == [[0, 0], [1, 0], [1, 1]]
    assert np.abs(typed.straightened(shaken) - [[0, 0], [1, 0], [1, 1]]).max() < 0.03
    assert typed.straightened(np.array([[0.5, 0.5]])).tolist() == [[0.5, 0.5], [0.5, 0.5]], "a dot stays one"
