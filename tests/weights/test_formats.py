"""What a file is, is told by its content, safely, in one line."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rexdet.errors import UserError
from rexdet.weights.formats import read_file
from rexdet.weights.pickles import named_classes

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2, dtype=torch.float16)}


class Malicious:
    """Writes a file when it is unpickled by somebody who trusts it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.target)!r}, 'w').close()",)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_file(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.jpg", "weights"])
def test_a_torch_file_is_read_under_any_name(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": TENSORS, "epoch": 3}, tmp_path / name)
    content = read_file(tmp_path / name)
    assert content.container == "torch"
    assert content.value["epoch"] == 3
    assert torch.equal(content.value["state_dict"]["a.weight"], TENSORS["a.weight"])


def test_the_older_torch_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth.tar"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    content = read_file(path)
    assert content.container == "torch (legacy)"
    assert torch.equal(content.value["a.weight"], TENSORS["a.weight"])


def test_safetensors_are_read_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "named.pth"
    save_file(TENSORS, str(path), metadata={"format": "pt", "rexdet": "{}"})
    content = read_file(path)
    assert content.container == "safetensors"
    assert content.metadata["rexdet"] == "{}"
    assert content.value["a.bias"].dtype == torch.float16


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    value = {
        "model": {"stem.conv1.weight": np.arange(4.0, dtype=np.float32).reshape(2, 2), "big": np.ones(2, ">f4")},
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
        "number": np.float64(2.5),
        "ordered": collections.OrderedDict(one=1),
    }
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    content = read_file(path)
    assert content.container == "pickle of arrays"
    assert torch.equal(content.value["model"]["stem.conv1.weight"], torch.arange(4.0).reshape(2, 2))
    assert torch.equal(content.value["model"]["big"], torch.ones(2))
    assert content.value["number"] == 2.5
    assert content.value["ordered"] == {"one": 1}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), "torch.optim.sgd.SGD"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_another_class_in_a_torch_file_is_refused_by_name(
    tmp_path: Path, thing: object, name: str, legacy: bool
) -> None:
    path = tmp_path / "extra.pth"
    torch.save({"state_dict": TENSORS, "extra": thing}, path, _use_new_zipfile_serialization=not legacy)
    assert name in refusal(path)


@pytest.mark.parametrize("writer", ["torch", "torch legacy", "pickle"])
def test_nothing_is_executed(tmp_path: Path, writer: str) -> None:
    path, target = tmp_path / "trap.pth", tmp_path / "sprung"
    value = {"model": TENSORS if writer != "pickle" else {}, "extra": Malicious(target)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=writer == "torch")
    text = refusal(path)
    assert "eval" in text
    assert "nothing was executed" in text
    assert not target.exists()


@pytest.mark.parametrize(
    "value",
    [np.array([{"a": 1}], dtype=object), np.dtype(object), np.ma.masked_array([1.0]), collections.Counter("ab")],
    ids=["objects", "dtype", "masked", "counter"],
)
def test_a_pickle_of_more_than_plain_arrays_is_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": value}))
    assert "refused" in refusal(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\0" * 600, "zeros"),
        (b"hello: world\n", "text that starts with 'hello: world"),
        (bytes(range(200, 250)), "c8 c9"),
        (b"\x80\x02}q\x00(", "damaged"),
        (b"\xff\xff\0\0\0\0\0\0{" + b" " * 100, "damaged or cut off"),
    ],
)
def test_what_is_no_file_of_weights_is_told_as_what_it_is(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert expected in refusal(path)


@pytest.mark.parametrize("kind", ["torch", "torch legacy", "safetensors", "pickle"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "weights.pth"
    tensors = {f"layer{index}.weight": torch.randn(40, 40) for index in range(4)}
    if kind == "safetensors":
        save_file(tensors, str(path))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({key: tensor.numpy() for key, tensor in tensors.items()}))
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "torch")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "damaged" in refusal(path)


def test_a_changed_byte_in_a_torch_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(5000)}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "check sum" in refusal(path)


def test_a_torch_file_written_without_check_sums_is_read(tmp_path: Path) -> None:
    serialization = pytest.importorskip("torch.serialization")
    if not hasattr(serialization, "set_crc32_options"):
        pytest.skip("this torch always writes check sums")
    serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, tmp_path / "weights.pth")
    finally:
        serialization.set_crc32_options(True)
    assert torch.equal(read_file(tmp_path / "weights.pth").value["a.weight"], TENSORS["a.weight"])


@pytest.mark.parametrize("kind", ["torch", "torch legacy", "safetensors", "pickle"])
def test_whatever_is_damaged_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pth"
    tensors = {f"layer{index}.weight": torch.randn(9, 9) for index in range(4)}
    if kind == "safetensors":
        save_file(tensors, str(path))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({key: tensor.numpy() for key, tensor in tensors.items()}, protocol=2))
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "torch")
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    lines: list[int] = []
    for _ in range(60):
        data = bytearray(whole)
        for position in generator.integers(0, len(data), 8):
            data[position] = generator.integers(0, 256)
        path.write_bytes(data)
        try:
            read_file(path)
        except UserError as error:
            lines.append(str(error).count("\n") + 1)
    assert len(lines) > 10
    assert set(lines) == {1}


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nowhere.pth")
    torch.save(TENSORS, tmp_path / "inside.pth")
    assert "inside.pth" in refusal(tmp_path)


def test_zip_archives_of_others_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip archive" in refusal(plain)
    program = tmp_path / "program.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(program))
    assert "TorchScript" in refusal(program)


def test_classes_are_named_without_running_a_pickle() -> None:
    data = pickle.dumps([argparse.Namespace(a=1), collections.OrderedDict()], protocol=4)
    assert named_classes(io.BytesIO(data)) == [("argparse", "Namespace"), ("collections", "OrderedDict")]


def test_published_files_of_others_behave_as_their_readme_says(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "checkpoints"
    assert "torch.optim.sgd.SGD" in refusal(folder / "distiller_resnet20_with_sgd_object.pth.tar")
    assert read_file(folder / "resnet20-12fca82f.th").container == "torch (legacy)"
    assert len(read_file(folder / "distiller_resnet20_dense.pth.tar").value["state_dict"]) == 107
    assert len(read_file(folder / "fastestdet_shufflenetv2_backbone.pth").value) == 330
