#!/usr/bin/env python3
"""Writes the checkpoints of this folder: what torch.save and safetensors produce, without torch.

Python's own pickler does the pickling; classes of the names that torch uses stand in for torch's. Needs NumPy.
Every tensor holds 0, 1, 2, ... in its storage, so that a test knows what a view must read.
"""
import collections, io, json, pickle, struct, sys, types, zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def module(name):
    parent, _, leaf = name.rpartition(".")
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        if parent:
            setattr(module(parent), leaf, sys.modules[name])
    return sys.modules[name]


def stand_in(module_name, name, kind=type):
    """A class or function that pickles as `module_name.name`."""
    if kind is type:
        thing = type(name, (), {})
    else:
        def thing(*arguments):
            return arguments
        thing.__name__ = thing.__qualname__ = name
    thing.__module__ = module_name
    setattr(module(module_name), name, thing)
    return thing


rebuild_tensor = stand_in("torch._utils", "_rebuild_tensor_v2", None)
rebuild_parameter = stand_in("torch._utils", "_rebuild_parameter", None)
STORAGES = {
    name: (stand_in("torch", name + "Storage"), dtype)
    for name, dtype in {
        "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": None, "Long": "<i8", "Int": "<i4",
        "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?",
    }.items()
}
ModelCheckpoint = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")


class Storage:
    def __init__(self, kind, count):
        self.kind, self.count = kind, count
        values = np.arange(count)
        if kind == "BFloat16":
            self.bytes = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        else:
            self.bytes = values.astype(STORAGES[kind][1]).tobytes()


class Tensor:
    def __init__(self, storage, shape, strides=None, offset=0, parameter=False):
        self.arguments = (storage, shape, strides, offset, parameter)

    def __reduce__(self):
        storage, shape, strides, offset, parameter = self.arguments
        if strides is None:
            strides = tuple(int(np.prod(shape[i + 1:], dtype=int)) for i in range(len(shape)))
        hooks = collections.OrderedDict()
        if parameter:
            return rebuild_parameter, (Tensor(storage, shape, strides, offset), True, hooks)
        return rebuild_tensor, (storage, offset, shape, strides, False, hooks)


def torch_save(path, value, protocol=2, root="archive", big=False):
    keys = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if isinstance(thing, Storage):
                key = keys.setdefault(id(thing), (str(len(keys)), thing))[0]
                return "storage", STORAGES[thing.kind][0], key, "cpu", thing.count

    data = io.BytesIO()
    Pickler(data, protocol).dump(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        def write(name, content):
            info = zipfile.ZipInfo(f"{root}/{name}", (1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=big) as entry:
                entry.write(content)
        write("data.pkl", data.getvalue())
        write("byteorder", b"little")
        for key, storage in keys.values():
            write(f"data/{key}", storage.bytes)
        write("version", b"3\n")


def lightning():
    """A training checkpoint: state_dict with _metadata, counters, callbacks keyed by class, NumPy scalars, optimizer."""
    state = collections.OrderedDict(
        (kind.lower(), Tensor(Storage(kind, 6), (2, 3))) for kind in STORAGES)
    shared = Storage("Float", 24)
    state["parameter"] = Tensor(shared, (4, 6), parameter=True)
    state["transposed"] = Tensor(shared, (6, 4), (1, 6))
    state["sliced"] = Tensor(shared, (2, 2, 2), (12, 6, 2), 1)
    state["scalar"] = Tensor(shared, (), (), 23)
    state["empty"] = Tensor(shared, (0, 3))
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return {
        "epoch": 12, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "finished": True,
        "learning_rate": 0.5, "beyond": 2**80, "minus": -5, "minus_long": -(2**40),
        "state_dict": state,
        "callbacks": {ModelCheckpoint: {"best_model_score": np.float32(0.5), "best": None, "set": {1, 2}}},
        "optimizer_states": [{"state": {0: {"exp_avg": Tensor(shared, (24,))}}, "param_groups": [{"lr": 1e-4}]}],
        "hyper_parameters": {"nested": [(1, 2.5, "three"), b"bytes"], "frozen": frozenset([1])},
    }


torch_save(HERE / "lightning.ckpt", lightning(), root="lightning")
torch_save(HERE / "protocol-4.pt", lightning(), protocol=4)
torch_save(HERE / "protocol-5-zip64.pt", lightning(), protocol=5, big=True)


def safetensors(path):
    """All element types, an empty tensor, a scalar, escapes, unsorted keys, a header that aligns nothing."""
    entries = [
        ("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("I64", "<i8"), ("I32", "<i4"), ("I16", "<i2"),
        ("I8", "i1"), ("U8", "u1"), ("BOOL", "?"),
    ]
    header, data = {"__metadata__": {"note": "\u00e9\ud83d\ude00\n\"quoted\""}}, b""

    def put(name, dtype, shape, content):
        nonlocal data
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content

    put("odd", "U8", [3], bytes([7, 8, 9]))
    for dtype, kind in reversed(entries):
        put(dtype.lower(), dtype, [2, 3], np.arange(6).astype(kind).tobytes())
    put("bf16", "BF16", [2, 3], (np.arange(6).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes())
    put("scalar", "F32", [], struct.pack("<f", 23))
    put("empty", "F32", [0, 3], b"")
    put("half/special", "F16", [10], np.array(
        [0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x3555, 0xc000], "<u2").tobytes())
    text = json.dumps(header, indent=1).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


safetensors(HERE / "kinds.safetensors")
