"""`MobileNetV2Features` as scikit-learn uses it."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

import npmnv2
from npmnv2 import ArgumentError, ArgumentTypeError, ImageError, MissingPackageError, MobileNetV2Features

sklearn = pytest.importorskip("sklearn")

# Those of scikit-learn's checks that need no table of numbers as input. The others call `fit` with one, which is no
# photo; the tag `two_d_array` says so, and `check_estimator` leaves them out for that.
CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name) -> None:
    checks = sys.modules.get("sklearn.utils.estimator_checks") or pytest.importorskip("sklearn.utils.estimator_checks")
    check = getattr(checks, name, None)
    if check is None:
        pytest.skip(f"scikit-learn {sklearn.__version__} has no {name}")
    check("MobileNetV2Features", MobileNetV2Features())


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_check_estimator_accepts_the_tags() -> None:
    from sklearn.utils.estimator_checks import check_estimator

    check_estimator(MobileNetV2Features())


def test_the_bits_of_features(network, folder) -> None:
    paths = sorted(map(str, (folder / "4").iterdir()))
    found = MobileNetV2Features(network).fit_transform(paths)
    assert found.shape == (8, 1280)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.stack(network.features(paths)))


def test_every_form_of_photos(network, digits) -> None:
    features = MobileNetV2Features(network)
    arrays = np.stack([np.asarray(image.convert("RGB")) for image in digits["0"][:3]])
    expected = features.transform(arrays)
    assert np.array_equal(features.transform(list(arrays)), expected)
    assert np.array_equal(features.transform(digits["0"][:3]), expected)
    assert features.transform([]).shape == (0, 1280)


def test_a_column_of_paths(network, folder) -> None:
    pandas = pytest.importorskip("pandas")
    paths = sorted(map(str, (folder / "4").iterdir()))[:2]
    frame = pandas.DataFrame({"photo": paths})
    features = MobileNetV2Features(network)
    expected = features.transform(paths)
    for column in (np.array(paths), frame["photo"], frame[["photo"]]):
        assert np.array_equal(features.transform(column), expected)
    named = features.set_output(transform="pandas").transform(paths)
    assert list(named.columns[:2]) == ["mobilenetv2features0", "mobilenetv2features1"]


def test_an_endpoint_gives_a_number_for_each_channel(network, digits) -> None:
    features = MobileNetV2Features(network, endpoint="layer_15/expansion_output").fit()
    assert features.transform(digits["0"][:2]).shape == (2, len(features.get_feature_names_out()))
    with pytest.raises(ArgumentError, match="block_99"):
        MobileNetV2Features(network, endpoint="block_99").fit()


def test_a_pipeline_learns_is_searched_and_travels(digits, network, tmp_path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    network.save_pretrained(tmp_path / "net")
    images = [image for of_class in digits.values() for image in of_class[:6]]
    labels = np.repeat(list(digits), 6)
    pipeline = make_pipeline(MobileNetV2Features(str(tmp_path / "net")), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"mobilenetv2features__endpoint": [None, "block_13_expand"]}, cv=2)
    search.fit(images, labels)
    kept = pickle.dumps(search.best_estimator_)
    assert len(kept) < 200_000, "the network must not travel when its file is known"
    assert (pickle.loads(kept).predict(images) == search.predict(images)).all()


def test_parameters_count_when_they_are_used(network, tmp_path) -> None:
    network.save_pretrained(tmp_path / "net")
    features = MobileNetV2Features("nothing.h5")
    with pytest.raises((FileNotFoundError, ArgumentError)):
        features.fit()
    features.set_params(model=tmp_path / "net").fit()
    first = features._loaded()
    assert features._loaded() is first
    features.set_params(n_threads=1)
    assert features._loaded() is not first


def test_what_is_no_list_of_photos(network, tmp_path) -> None:
    features = MobileNetV2Features(network)
    with pytest.raises(ArgumentError, match="X must be a list of images, got one"):
        features.transform("cat.jpg")
    with pytest.raises(ArgumentTypeError, match="X must be a list of images, got int"):
        features.transform(3)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"bad\.png"):
        features.transform([tmp_path / "bad.png"])
    with pytest.raises(ArgumentError, match="batch_size"):
        MobileNetV2Features(network, batch_size=0).fit()


def test_without_scikit_learn(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingPackageError, match="MobileNetV2Features needs scikit-learn"):
        npmnv2.MobileNetV2Features()
