"""Data sets: every format that is read, and every way in which files are wrong."""

import doctest
import gzip
import hashlib
import io
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from scipy.io import savemat

from localgrad.experiments.data import (
    DATASETS,
    DataError,
    batch_indices,
    load,
    steps_per_epoch,
)

CIFAR10 = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


def examples(count, shape, classes, seed=0):
    """Random images of unsigned bytes with labels, the largest label among them."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    labels[-1] = classes - 1
    return generator.integers(0, 256, (count, *shape), np.uint8), labels


# --- Writers: a set's files as its authors made them ----------------------------------------------


def write_idx(folder, train, test, ending=".gz", hyphen="-"):
    for part, (images, labels) in (("train", train), ("t10k", test)):
        for kind, array in ((f"images{hyphen}idx3", images[:, 0]), (f"labels{hyphen}idx1", labels)):
            content = idx_bytes(array)
            (folder / f"{part}-{kind}-ubyte{ending}").write_bytes(
                gzip.compress(content) if ending else content
            )


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_idx_plain(folder, train, test):
    write_idx(folder, train, test, "", ".")


def binary(images, labels, coarse=False):
    rows = [labels[:, None], images.reshape(len(images), -1)]
    rows = [np.full_like(labels, 7)[:, None], *rows] if coarse else rows
    return np.concatenate(rows, axis=1).astype(np.uint8).tobytes()


def write_cifar10(folder, train, test):
    parts = zip(*(np.array_split(array, 5) for array in train), strict=True)
    for name, part in zip(CIFAR10, [*parts, test], strict=True):
        (folder / f"{name}.bin").write_bytes(binary(*part))
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")


def write_cifar10_python(folder, train, test):
    inner = folder / "cifar-10-batches-py"
    inner.mkdir()
    parts = zip(*(np.array_split(array, 5) for array in train), strict=True)
    for name, part in zip(CIFAR10, [*parts, test], strict=True):
        (inner / name).write_bytes(pickled(*part))
    (inner / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": [*map(str.encode, "abcdefghij")]})
    )


def pickled(images, labels, key=b"labels"):
    """As Python 2 pickled it: keys are bytes."""
    return Python2Pickler.dumps({b"data": images.reshape(len(images), -1), key: labels.tolist()})


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the texts of Python 2, and NumPy's functions where Python 2 had them."""

    @classmethod
    def dumps(cls, value):
        file = io.BytesIO()
        cls(file, 2).dump(value)
        return file.getvalue().replace(b"numpy._core", b"numpy.core")

    def save_text(self, value):
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {bytes: save_text}


def write_cifar100(folder, train, test):
    for name, part in (("train", train), ("test", test)):
        (folder / f"{name}.bin").write_bytes(binary(*part, coarse=True))
    (folder / "fine_label_names.txt").write_text("\n".join(f"c{k}" for k in range(100)))


def write_cifar100_python(folder, train, test):
    for name, part in (("train", train), ("test", test)):
        (folder / name).write_bytes(pickled(*part, b"fine_labels"))
    names = {"fine_label_names": [f"c{k}" for k in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=5))


def write_svhn(folder, train, test):
    for name, (images, labels) in (("train", train), ("test", test)):
        content = {
            "X": images.transpose(2, 3, 1, 0),
            "y": np.where(labels == 0, 10, labels)[:, None],
        }
        savemat(folder / f"{name}_32x32.mat", content, do_compression=True)


DIGITS, LETTERS = tuple("0123456789"), tuple("abcdefghij")
HUNDRED = tuple(f"c{k}" for k in range(100))
FORMATS = {
    "idx.gz": ("mnist", write_idx, (1, 28, 28), DIGITS),
    "idx": ("mnist", write_idx_plain, (1, 28, 28), DIGITS),
    "fashion": ("fashion-mnist", write_idx, (1, 28, 28), None),
    "cifar10.bin": ("cifar10", write_cifar10, (3, 32, 32), LETTERS),
    "cifar10.py": ("cifar10", write_cifar10_python, (3, 32, 32), LETTERS),
    "cifar100.bin": ("cifar100", write_cifar100, (3, 32, 32), HUNDRED),
    "cifar100.py": ("cifar100", write_cifar100_python, (3, 32, 32), HUNDRED),
    "mat": ("svhn", write_svhn, (3, 32, 32), DIGITS),
}


def written(key, folder):
    name, write, shape, names = FORMATS[key]
    classes = len(names or DIGITS)
    train, test = examples(23, shape, classes), examples(11, shape, classes, 1)
    write(folder, train, test)
    return name, train, test


@pytest.mark.parametrize("key", FORMATS)
def test_files_are_read_as_they_were_written(key, tmp_path):
    name, train, test = written(key, tmp_path)
    data = load(name, tmp_path)
    _, _, shape, names = FORMATS[key]
    assert (data.name, data.shape) == (name, shape)
    assert data.classes == len(data.class_names)
    assert names in (None, data.class_names)
    found = (data.train_inputs, data.train_labels, data.test_inputs, data.test_labels)
    for array, expected in zip(found, (*train, *test), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert [array.dtype for array in found] == [np.uint8, np.int32] * 2
    assert re.match(r"23 of [\d,]+ training inputs, 11 of [\d,]+ test inputs$", data.partial)
    assert data.partial in repr(data)


@pytest.mark.parametrize("key", ["cifar10.bin", "cifar10.py"])
def test_some_batches_are_enough(key, tmp_path):
    name, (images, labels), _ = written(key, tmp_path)
    for path in tmp_path.rglob("data_batch_[1245]*"):
        path.unlink()
    data = load(name, tmp_path)
    np.testing.assert_array_equal(data.train_inputs, np.array_split(images, 5)[2])
    np.testing.assert_array_equal(data.train_labels, np.array_split(labels, 5)[2])
    assert data.partial.endswith("without data_batch_1, data_batch_2, data_batch_4, data_batch_5")


def test_a_complete_set_is_not_called_partial(tmp_path):
    images, labels = np.zeros((60_000, 1, 1, 1), np.uint8), np.zeros(60_000)
    images = np.broadcast_to(images, (60_000, 1, 28, 28))
    write_idx(tmp_path, (images, labels), (images[:10_000], labels[:10_000]), "")
    assert load("mnist", tmp_path).partial == ""


# --- Files that are wrong -------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"more")


def scramble(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


def raw(content):
    return lambda path: path.write_bytes(content)


def idx(array):
    return raw(idx_bytes(array))


def batch(**wrong):
    good = {"data": np.zeros((5, 3072), np.uint8), "labels": [0] * 5}
    return raw(pickle.dumps(good | wrong))


def meta(names):
    return raw(pickle.dumps({"label_names": names}))


def mat(**wrong):
    good = {"X": np.zeros((32, 32, 3, 5), np.uint8), "y": np.ones((5, 1))}
    return lambda path: savemat(path, good | wrong)


class Intruder:
    def __reduce__(self):
        return os.mkdir, ("intruded",)


FASHION = np.array([9, 0, 0, 3, 0, 2, 7, 2, 5, 5, *[0] * 13])
FASHION_TEST = np.array([9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 0])
MNIST_TEST = np.array([7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0])
WRONG = [
    ("idx.gz", "train-images-idx3-ubyte.gz", cut, "compressed data are damaged"),
    ("idx.gz", "t10k-labels-idx1-ubyte.gz", scramble, "compressed data are damaged"),
    ("idx.gz", "t10k-images-idx3-ubyte.gz", Path.unlink, "no file t10k-images-idx3-ubyte.gz"),
    ("idx", "train-images.idx3-ubyte", cut, "bytes, where 18,048 were expected"),
    ("idx", "train-images.idx3-ubyte", lengthen, "18,052 bytes, where 18,048 were"),
    ("idx", "train-images.idx3-ubyte", raw(b""), "no IDX file of unsigned bytes with 3 axes"),
    ("idx", "train-images.idx3-ubyte", idx(np.zeros(23)), "no IDX file of unsigned bytes with 3"),
    ("idx", "train-images.idx3-ubyte", idx(np.zeros((23, 8, 9))), "8 x 9 pixels, where 28 x 28"),
    ("idx", "train-labels.idx1-ubyte", idx(np.zeros(22)), "22 labels for 23 images"),
    ("idx", "train-labels.idx1-ubyte", idx(np.full(23, 10)), "a label 10, where whole"),
    ("idx", "train-labels.idx1-ubyte", idx(FASHION), "the labels of fashion-mnist, not of mnist"),
    ("idx", "t10k-labels.idx1-ubyte", idx(FASHION_TEST), "labels of fashion-mnist, not of mnist"),
    ("fashion", "t10k-labels-idx1-ubyte.gz", idx(MNIST_TEST), "labels of mnist, not of fashion-"),
    ("cifar10.bin", "data_batch_2.bin", cut, "whole records of 3,073 bytes were expected"),
    ("cifar10.bin", "data_batch_2.bin", raw(b""), "no examples at all"),
    ("cifar10.bin", "test_batch.bin", Path.unlink, "no file test_batch.bin"),
    ("cifar10.bin", "test_batch.bin", raw(b"c" * 3073), "a label 99, where whole"),
    ("cifar10.py", "data_batch_2", cut, "the pickle cannot be read"),
    ("cifar10.py", "data_batch_2", batch(labels=[0] * 4), "4 labels for 5 images"),
    ("cifar10.py", "data_batch_2", batch(labels=[0, 0, 0, 0, 10]), "a label 10, where"),
    (
        "cifar10.py",
        "data_batch_2",
        batch(labels="01234"),
        "a list of integers was expected, and str",
    ),
    ("cifar10.py", "data_batch_2", batch(data=np.zeros((5, 9), np.uint8)), r"uint8 \(5, 9\) found"),
    ("cifar10.py", "data_batch_2", batch(data=None), "and nothing found"),
    ("cifar10.py", "data_batch_2", batch(data=Intruder()), r"calls (posix|nt)\.mkdir"),
    ("cifar10.py", "batches.meta", meta(None), "a list of names was expected, and nothing found"),
    ("cifar10.py", "batches.meta", meta(10), "'label_names' a list of names was expected, and int"),
    ("cifar100.py", "test", raw(pickle.dumps([])), "a list, where a dict"),
    ("cifar100.py", "test", batch(), "'fine_labels' a list of integers was expected, and nothing"),
    ("cifar100.bin", "train.bin", cut, "whole records of 3,074 bytes"),
    ("mat", "train_32x32.mat", cut, "MATLAB file cannot be read"),
    ("mat", "train_32x32.mat", raw(b""), "MATLAB file cannot be read"),
    ("mat", "train_32x32.mat", mat(y=np.full((5, 1), 11)), "a label 11, where"),
    ("mat", "train_32x32.mat", mat(y=np.ones((4, 1))), "4 labels for 5 images"),
    ("mat", "train_32x32.mat", mat(y=["1"] * 5), r"and n numbers y were expected, .* y of <U1"),
    (
        "mat",
        "train_32x32.mat",
        mat(y=np.full(5, 1.5)),
        r"a label 1\.5, where whole numbers from 0 to 9",
    ),
    ("mat", "train_32x32.mat", mat(y=np.full(5, np.inf)), "a label inf, where whole numbers"),
    ("mat", "train_32x32.mat", mat(X=np.zeros((8, 8))), r"X of float64 \(8, 8\), y of"),
    ("mat", "test_32x32.mat", Path.unlink, "no file test_32x32.mat"),
]


@pytest.mark.parametrize(("key", "file", "damage", "message"), WRONG)
def test_wrong_files_are_named(key, file, damage, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *_ = written(key, tmp_path)
    (path,) = tmp_path.rglob(file)
    damage(path)
    with pytest.raises(DataError, match=message) as raised:
        load(name, tmp_path)
    error = raised.value
    assert Path(error.where) == (path if path.exists() else tmp_path)
    assert str(path if path.exists() else file) in str(error)
    assert re.search("get|choose", error.advice)
    assert not (tmp_path / "intruded").exists()


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_folders_that_hold_nothing(name, tmp_path):
    with pytest.raises(DataError, match=r"no folder was given; where: .*; what to do: get .*, by "):
        load(name)
    with pytest.raises(DataError, match="there is no such folder"):
        load(name, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a file, not a folder"):
        load(name, tmp_path / "file")
    with pytest.raises(DataError, match=r"there is no file (train|data_batch_1)"):
        load(name, tmp_path)


@pytest.mark.parametrize("ending", ["tar.gz", "tar", "tgz", "zip"])
def test_an_archive_should_be_unpacked(ending, tmp_path):
    (tmp_path / f"cifar-10-binary.{ending}").touch()
    with pytest.raises(DataError, match=rf"unpack cifar-10-binary\.{ending}, or get the binary"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("mnits", "did you mean 'mnist'?"), ("openml:", "text:PATH"), ("images:mine", "cifar100")],
)
def test_names_that_no_set_has(name, advice):
    with pytest.raises(DataError, match=f"no data set '{name}'.*{re.escape(advice)}"):
        load(name)


# --- Digits, OpenML, text -------------------------------------------------------------------------


def test_digits_are_split_by_class_and_by_seed():
    digits, again, other = load("digits"), load("digits"), load("digits", seed=1)
    assert digits.train_inputs.shape == (1437, 1, 8, 8)
    assert digits.test_inputs.shape == (360, 1, 8, 8)
    assert digits.train_inputs.dtype == np.float32
    assert digits.train_labels.dtype == np.int32
    assert (digits.train_inputs.min(), digits.train_inputs.max()) == (0, 1)
    counts = np.bincount(digits.test_labels)
    assert counts.min() >= 34
    assert counts.max() <= 38
    for part in ("train_inputs", "train_labels", "test_inputs", "test_labels"):
        np.testing.assert_array_equal(getattr(digits, part), getattr(again, part))
    assert (digits.test_inputs != other.test_inputs).any()


def cached(folder, columns, rows):
    """A data set number 1 in the cache of scikit-learn, as OpenML would have sent it."""

    def write(path, content):
        file = folder / "openml" / "openml.org" / f"{path}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content.encode()))

    lines = [",".join("?" if x is None else str(x) for x in row) for row in rows]
    types = {name: kind if kind == "NUMERIC" else f"{{{kind}}}" for name, kind in columns.items()}
    header = ["@RELATION toy", *(f"@ATTRIBUTE {n} {t}" for n, t in types.items()), "@DATA"]
    arff = "\n".join([*header, *lines])
    features = [
        {
            "index": str(k),
            "name": name,
            "data_type": "numeric" if kind == "NUMERIC" else "nominal",
            "is_target": str(name == "class").lower(),
            "is_ignore": "false",
            "is_row_identifier": "false",
            "number_of_missing_values": "0",
        }
        for k, (name, kind) in enumerate(columns.items())
    ]
    description = {
        "id": "1",
        "name": "toy",
        "version": "3",
        "description": "",
        "format": "ARFF",
        "url": "https://www.openml.org/data/v1/download/1/toy.arff",
        "status": "active",
        "md5_checksum": hashlib.md5(arff.encode()).hexdigest(),
    }
    qualities = [{"name": "NumberOfInstances", "value": str(float(len(rows)))}]
    write("api/v1/json/data/1", json.dumps({"data_set_description": description}))
    write("api/v1/json/data/features/1", json.dumps({"data_features": {"feature": features}}))
    write("api/v1/json/data/qualities/1", json.dumps({"data_qualities": {"quality": qualities}}))
    write("data/v1/download/1/toy.arff", arff)


def test_a_table_of_openml(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        [round(5 + x, 3), "red" if x > 0 else "green", None if k % 9 == 0 else k, "ab"[k % 2]]
        for k, x in enumerate(generator.standard_normal(40))
    ]
    columns = {"size": "NUMERIC", "colour": "red,green,blue", "place": "NUMERIC", "class": "a,b"}
    cached(tmp_path, columns, rows)
    data = load("openml:1", tmp_path)
    assert data.class_names == ("a", "b")
    assert data.shape == (1, 1, 4)
    assert data.train_inputs.shape == (32, 1, 1, 4)
    assert data.train_inputs.dtype == np.float32
    assert sorted(np.bincount(data.test_labels)) == [4, 4]
    table = data.train_inputs[:, 0, 0]
    assert set(table[:, :2].sum(axis=1)) == {1}
    np.testing.assert_allclose(table[:, 2:].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(table[:, 2:].std(axis=0), 1, atol=1e-6)
    assert data.description == "toy, version 3, of OpenML."
    np.testing.assert_array_equal(table, load("openml:1", tmp_path).train_inputs[:, 0, 0])
    assert (load("openml:1", tmp_path, seed=1).train_inputs[:, 0, 0] != table).any()


@pytest.mark.parametrize(("largest", "channels", "side"), [(255, 1, 8), (16, 1, 9), (255, 3, 8)])
def test_rows_of_pixels_are_images(largest, channels, side, tmp_path):
    pixels = np.random.default_rng(0).integers(0, largest + 1, (20, channels * side * side))
    pixels[0, 0] = largest
    columns = {f"p{k}": "NUMERIC" for k in range(pixels.shape[1])} | {"class": "a,b"}
    cached(tmp_path, columns, [[*row, "ab"[k % 2]] for k, row in enumerate(pixels)])
    data = load("openml:1", tmp_path)
    assert data.shape == (channels, side, side)
    assert data.train_inputs.dtype == np.uint8
    found = np.concatenate([data.train_inputs, data.test_inputs]).reshape(20, -1)
    expected = np.rint(pixels * (255 / largest))
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("NUMERIC", [0.5 * k for k in range(20)], "no single column of classes"),
        ("NUMERIC", [None, *[1, 2] * 9], "not every row of openml:1 has a class: some are missing"),
        ("a,b", ["a"] * 19 + ["b"], "cannot be split by class"),
    ],
)
def test_sets_of_openml_that_are_no_classification(kind, labels, message, tmp_path):
    cached(tmp_path, {"x": "NUMERIC", "class": kind}, [[k, y] for k, y in enumerate(labels)])
    with pytest.raises(DataError, match=message):
        load("openml:1", tmp_path)


def test_numbers_of_openml_that_are_too_large(tmp_path):
    columns = {"small": "NUMERIC", "large": "NUMERIC", "class": "a,b"}
    cached(tmp_path, columns, [[3e38, -1e300 if k == 7 else k, "ab"[k % 2]] for k in range(20)])
    with pytest.raises(DataError, match=r"-1e\+300 in column 'large' of openml:1, more than 3\.4e"):
        load("openml:1", tmp_path)


def test_a_set_of_openml_that_cannot_be_fetched(monkeypatch, tmp_path):
    asked = {}

    def fetch(**options):
        asked.update(options)
        raise OSError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(DataError, match=r"openml:iris:2 cannot be had.*no network.*check the name"):
        load("openml:iris:2", tmp_path)
    assert (asked["name"], asked["version"], asked["data_home"]) == ("iris", 2, str(tmp_path))


def test_text_is_cut_into_pieces_that_predict_the_next_character(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("abcdé\n"), 777))
    (tmp_path / "tale.txt").write_bytes(text.encode())
    data = load("text:tale.txt", tmp_path)
    assert data.class_names == tuple(sorted(set(text)))
    assert (data.shape, data.classes) == ((50,), 6)
    assert data.train_inputs.shape == data.train_labels.shape == (12, 50)
    assert data.test_inputs.shape == (3, 50)

    def read(codes):
        return "".join(data.class_names[k] for k in codes.ravel())

    assert read(data.train_inputs) + read(data.test_inputs) == text[:750]
    assert read(data.train_labels) + read(data.test_labels) == text[1:751]
    absolute = load(f"text:{tmp_path / 'tale.txt'}")
    np.testing.assert_array_equal(absolute.train_inputs, data.train_inputs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file.*name a text file"),
        (b"\xff\xfe" * 300, "no text in UTF-8: invalid start byte at byte 0"),
        (b"short", "5 characters, where 251 at least"),
    ],
)
def test_texts_that_cannot_be_read(content, message, tmp_path):
    path = tmp_path / "tale.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        load(f"text:{path}")
    assert raised.value.where == str(path)


def test_the_example_in_the_documentation():
    (example,) = doctest.DocTestFinder(recurse=False).find(load, "load", globs={})
    assert doctest.DocTestRunner().run(example) == (0, 2)


# --- Batches --------------------------------------------------------------------------------------


def test_batches_are_a_pure_function_of_seed_and_step():
    forward = [batch_indices(3, step, 100, 30) for step in range(9)]
    backward = [batch_indices(3, step, 100, 30) for step in reversed(range(9))]
    np.testing.assert_array_equal(forward, backward[::-1])
    epoch = np.concatenate(forward[:3])
    assert len(set(epoch)) == 90
    assert (forward[0] != forward[3]).any()
    assert (forward[0] != batch_indices(4, 0, 100, 30)).any()


@pytest.mark.parametrize("size", [0, -1, 101])
def test_batches_that_cannot_be_drawn(size):
    with pytest.raises(ValueError, match="choose a batch size from 1 to 100"):
        steps_per_epoch(100, size)
