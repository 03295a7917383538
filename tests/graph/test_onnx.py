"""ONNX files as a whole: real networks, symbolic dimensions, shape arithmetic, and everything that goes wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import build, compare, load

from sim.errors import InputError, LeptonError
from sim.graph.evaluate import evaluate
from sim.graph.onnx import light_model_path, load_onnx

NODE = helper.make_node


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def complaint(model: onnx.ModelProto, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(model, folder)
    return str(caught.value)


# Published: torchvision's model cards (resnet50 4.09, vgg19 19.63, densenet121 2.83, squeezenet1_1 0.35 GMACs;
# vgg19 and squeezenet1_1 parameters); Caffe's bvlc_alexnet has 60,965,224 parameters.
@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [
        ("resnet50", 4_089_184_256, 25_557_032 + 2 * 26_560),  # two running statistics per channel on top
        ("vgg19", 19_632_062_464, 143_667_240),
        ("densenet121", 2_834_161_664, None),
        ("squeezenet", 349_151_936, 1_235_496),
        ("bvlc_alexnet", 654_560_384, 60_965_224),
        ("zfnet512", 1_481_727_008, None),
        ("inception_v1", 1_431_556_352, 6_998_552),
        ("inception_v2", 2_018_851_840, None),
        ("shufflenet", 124_664_528, None),
    ],
)
def test_light_models(name: str, macs: int, parameters: int | None) -> None:
    graph = load_onnx(light_model_path(name))
    assert graph.macs == macs
    assert graph.tensors[graph.outputs[0]].elements == 1000
    assert graph.items == 1
    if parameters is not None:
        assert graph.parameter_count == parameters


def test_light_weights_take_no_memory() -> None:
    graph = load_onnx(light_model_path("vgg19"))
    largest = max((value for value in graph.values.values()), key=lambda value: value.size)
    assert largest.shape == (4096, 25088)
    assert largest.strides == (0, 0)


def test_squeezenet_equals_runtime(tmp_path: Path) -> None:
    model = onnx.load(light_model_path("squeezenet"))
    for output in model.graph.output:
        assert output.type.HasField("tensor_type")
    compare(model, {"data_0": floats(1, 3, 224, 224)}, tmp_path)


def test_unknown_light_model_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"no light model 'resnet18'.*resnet50"):
        light_model_path("resnet18")


def symbolic_model() -> onnx.ModelProto:
    """y = x * 2 with x [batch, ?, 4] and a mask [batch]."""
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", None, 4]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("unread", TensorProto.FLOAT, ["other"]),
    ]
    nodes = [NODE("Add", ["x", "x"], ["s"]), NODE("Relu", ["mask"], ["m"])]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in ("s", "m")]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), ir_version=10)


def test_every_symbolic_dimension_is_asked_for_once(tmp_path: Path) -> None:
    text = complaint(symbolic_model(), tmp_path)
    assert text.count("dimension batch has no number; give it one with --dim batch=N or --batch N,") == 1
    assert text.count("--dim x.1=N, at most") == 1
    assert "other" not in text  # nobody reads that input


def test_symbolic_dimensions_get_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(symbolic_model().SerializeToString())
    graph = load_onnx(path, {"batch": 8, "x.1": 3}, "bf16")
    assert graph.inputs == ("x", "mask")
    assert graph.tensors["x"].shape == (8, 3, 4)
    assert graph.tensors["x"].dtype == "bf16"
    assert graph.items == 8
    with pytest.raises(InputError, match="no dimension 'bach'; did you mean 'batch'"):
        load_onnx(path, {"bach": 8, "batch": 8, "x.1": 3})
    with pytest.raises(InputError, match="dimension batch cannot be 0"):
        load_onnx(path, {"batch": 0, "x.1": 3})
    with pytest.raises(InputError, match=r"dimension batch cannot be 2147483648; .* at most 2,147,483,647"):
        load_onnx(path, {"batch": 2**31, "x.1": 3})


def test_a_batch_is_the_first_dimension_of_inputs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(symbolic_model().SerializeToString())
    graph = load_onnx(path, {"x.1": 3}, batch=5)
    assert [graph.tensors[name].shape for name in graph.inputs] == [(5, 3, 4), (5,)]
    assert graph.items == 5
    with pytest.raises(InputError, match=r"batch: the first dimension .*x is \[batch, \?, 4\].*--dim batch=2 gives"):
        load_onnx(path, {"batch": 2, "x.1": 3}, batch=5)
    with pytest.raises(InputError, match=r"data_0 is \[1, 3, 224, 224\]; export it with a symbolic first dimension"):
        load_onnx(light_model_path("squeezenet"), batch=8)


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    """Reshape to [shape(x)[0], -1 / 2, 2], as exporters write it, leaves one view and the product."""
    nodes = [
        NODE("Shape", ["x"], ["shape"]),
        NODE("Gather", ["shape", "zero"], ["batch"], axis=0),
        NODE("Unsqueeze", ["batch", "axis"], ["batch_1"]),
        NODE("Gather", ["shape", "last"], ["width"], axis=0),
        NODE("Div", ["width", "two"], ["half"]),
        NODE("Unsqueeze", ["half", "axis"], ["half_1"]),
        NODE("Concat", ["batch_1", "half_1", "two_1"], ["target"], axis=0),
        NODE("Reshape", ["x", "target"], ["y"]),
        NODE("ConstantOfShape", ["target"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        NODE("Mul", ["y", "ones"], ["z"]),
    ]
    constants = {
        "zero": np.array(0),
        "last": np.array(-1),
        "two": np.array(2),
        "axis": ints(0),
        "two_1": ints(2),
    }
    feeds = {"x": floats(3, 10)}
    graph = compare(build(nodes, feeds, ["z"], constants), feeds, tmp_path)
    assert [op.kind for op in graph.ops] == ["reshape", "elementwise"]
    assert graph.tensors[graph.outputs[0]].shape == (3, 5, 2)


def test_range_expand_and_where_on_constants(tmp_path: Path) -> None:
    """A causal mask built from constants becomes one weight."""
    nodes = [
        NODE("Range", ["zero", "four", "one"], ["row"]),
        NODE("Unsqueeze", ["row", "axis"], ["column"]),
        NODE("LessOrEqual", ["row", "column"], ["seen"]),
        NODE("Where", ["seen", "nothing", "minus"], ["mask"]),
        NODE("Add", ["x", "mask"], ["y"]),
    ]
    constants = {
        "zero": np.array(0),
        "four": np.array(4),
        "one": np.array(1),
        "axis": ints(1),
        "nothing": np.array(0, np.float32),
        "minus": np.array(-9, np.float32),
    }
    feeds = {"x": floats(4, 4)}
    graph = compare(build(nodes, feeds, ["y"], constants), feeds, tmp_path)
    assert [op.kind for op in graph.ops] == ["elementwise"]
    mask = graph.values[graph.ops[0].inputs[1]]
    np.testing.assert_array_equal(mask, np.triu(np.full((4, 4), -9.0), 1))


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = [NODE("Mul", ["a", "a"], ["b"]), NODE("Relu", ["b"], ["c"])]
    function = helper.make_function("mine", "Square", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    feeds = {"x": floats(2, 3)}
    model = build([NODE("Square", ["x"], ["y"], domain="mine")], feeds, ["y"], domains={"mine": 1})
    model.functions.append(function)
    graph = load(model, tmp_path)
    assert [op["function"] for op in graph.ops] == ["mul", "relu"]


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    feeds = {"x": floats(2, 3)}
    model = build([NODE("Relu", ["h"], ["y"]), NODE("Neg", ["x"], ["h"])], feeds, ["y"])
    assert [op["function"] for op in load(model, tmp_path).ops] == ["neg", "relu"]


def external_model(folder: Path) -> tuple[Path, np.ndarray]:
    weight = floats(4, 5)
    model = build([NODE("MatMul", ["x", "w"], ["y"])], {"x": floats(2, 4)}, ["y"], {"w": weight})
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path, weight


def test_external_data_is_mapped_not_read(tmp_path: Path) -> None:
    path, weight = external_model(tmp_path)
    graph = load_onnx(path)
    assert isinstance(graph.values["w"], np.memmap)
    found = evaluate(graph, {"x": floats(2, 4)})[graph.outputs[0]]
    np.testing.assert_allclose(found, floats(2, 4).astype(float) @ weight, rtol=1e-6)


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path, _ = external_model(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 79)
    with pytest.raises(InputError, match=r"w: initialiser cannot be read: .*too short: 80 bytes needed"):
        load_onnx(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"external data 'weights.bin' is missing"):
        load_onnx(path)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    path, _ = external_model(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="lies outside the folder"):
        load_onnx(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\xff" * 100, b"hello world\n"])
def test_not_an_onnx_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not an ONNX"):
        load_onnx(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_onnx(tmp_path / "absent.onnx")


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(light_model_path("squeezenet").read_bytes()[:3000])
    with pytest.raises(InputError, match="truncated"):
        load_onnx(path)


def test_cycle_is_named(tmp_path: Path) -> None:
    nodes = [
        NODE("Add", ["x", "c"], ["a"], name="first"),
        NODE("Relu", ["a"], ["b"], name="second"),
        NODE("Neg", ["b"], ["c"], name="third"),
    ]
    text = complaint(build(nodes, {"x": floats(2)}, ["c"]), tmp_path)
    assert "the graph has a cycle" in text
    assert all(name in text for name in ("first", "second", "third"))


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    text = complaint(build([NODE("Add", ["x", "lost"], ["y"])], {"x": floats(2)}, ["z"]), tmp_path)
    assert "input 'lost' is produced by no node" in text
    assert "output 'z' is produced by no node" in text


def test_model_that_computes_nothing(tmp_path: Path) -> None:
    model = build([NODE("Identity", ["x"], ["y"])], {"x": floats(2)}, ["y"])
    assert "computes nothing" in complaint(model, tmp_path)


def test_all_unsupported_operators_at_once(tmp_path: Path) -> None:
    nodes = [
        NODE("Det", ["x"], ["a"], name="one"),
        NODE("Relu", ["a"], ["b"]),
        NODE("Det", ["b"], ["c"], name="two"),
        NODE("Magic", ["c"], ["d"], name="three", domain="acme"),
        NODE("MaxPool", ["x"], ["e", "index"], name="four", kernel_shape=[2, 2]),
        NODE("Add", ["index", "index"], ["f"]),
        NODE("Conv", ["x", "w"], ["g"], name="five", auto_pad="SOMEHOW"),
        NODE("NonZero", ["x"], ["h"], name="six"),
    ]
    outputs = ["d", "e", "f", "g", "h"]
    model = build(nodes, {"x": floats(1, 1, 4, 4)}, outputs, {"w": floats(1, 1, 3, 3)}, domains={"acme": 1})
    lines = complaint(model, tmp_path).splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("unsupported operator ai.onnx::Det; nodes: one, two")
    assert lines[1].endswith("unsupported operator acme::Magic; nodes: three")
    assert "four (MaxPool): not supported: output 'index'" in lines[2]
    assert "five (Conv): not supported: auto_pad = 'SOMEHOW'" in lines[3]
    assert "six (NonZero): not supported: NonZero of a tensor that the model computes" in lines[4]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (NODE("Conv", ["x", "w"], ["y"]), "expected a weight"),
        (NODE("Conv", ["x", "v"], ["y"], pads=[-1, 0, 0, 0]), "negative pads"),
        (NODE("MaxPool", ["x"], ["y"]), "'kernel_shape' is missing"),
        (NODE("MaxPool", ["x"], ["y"], kernel_shape=3.5), "kernel_shape is not of the type INTS"),
        (NODE("Reshape", ["x", "five"], ["y"]), "does not have the elements of"),
        (NODE("Transpose", ["x"], ["y"], perm=[0, 1, 2, 4]), "axis 4 is outside"),
        (NODE("Resize", ["x", "", "", "five"], ["y"], mode="cubic", antialias=1), "antialias = 1"),
        (NODE("Upsample", ["x", "wide"], ["y"]), "at most 16777216 along an axis"),
        (NODE("Upsample", ["x", "odd"], ["y"]), "scale nan of axis 3; a positive number is needed"),
        (NODE("BatchNormalization", ["x", "five"], ["y"]), "expected 5 to 5 inputs, found 2"),
        (NODE("Gather", ["x", "five"], ["y"], axis=2), "indices 5 to 5 leave an axis of 4"),
    ],
)
def test_nodes_that_contradict_themselves(node: onnx.NodeProto, expected: str, tmp_path: Path) -> None:
    constants = {"w": floats(3, 2, 3, 3), "v": floats(3, 1, 3, 3), "five": ints(5)}
    constants |= {"wide": np.array([1, 1, 1, 2**31], np.float32), "odd": np.array([1, 1, 1, np.nan], np.float32)}
    assert expected in complaint(build([node], {"x": floats(1, 1, 4, 4)}, ["y"], constants), tmp_path)


def rich_model() -> bytes:
    """A bit of everything, small, as a target for mutations."""
    nodes = [
        NODE("Conv", ["x", "w"], ["a"], strides=[2, 1], pads=[1, 0, 1, 0]),
        NODE("Relu", ["a"], ["b"]),
        NODE("Resize", ["b", "", "scales"], ["c"], mode="nearest"),
        NODE("Shape", ["c"], ["s"]),
        NODE("ConstantOfShape", ["s"], ["k"]),
        NODE("Add", ["c", "k"], ["d"]),
        NODE("Reshape", ["d", "flat"], ["e"]),
        NODE("Slice", ["e", "one", "nine"], ["f"]),
        NODE("LSTM", ["f", "lw", "lr"], ["g"], hidden_size=2),
        NODE("ReduceMean", ["g"], ["h"], axes=[0]),
        NODE("Tile", ["h", "twice"], ["i"]),
        NODE("Softmax", ["i"], ["y"], axis=-1),
    ]
    constants = {
        "w": floats(2, 1, 3, 3),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "flat": ints(4, -1, 4),
        "one": ints(1),
        "nine": ints(9),
        "lw": floats(1, 8, 4),
        "lr": floats(1, 8, 2),
        "twice": ints(1, 2, 1, 1),
    }
    return build(nodes, {"x": floats(1, 1, 6, 6)}, ["y"], constants).SerializeToString()


def test_rich_model_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(rich_model())
    assert load_onnx(path).macs > 0


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "insert"]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A byte above 127 in any place: of an operator's type it makes bytes instead of text."""
    content, path = rich_model(), tmp_path / "model.onnx"
    for place in range(content.index(b"Conv"), content.index(b"Conv") + 4):
        path.write_bytes(content[:place] + b"\x80" + content[place + 1 :])
        with pytest.raises(InputError):
            load_onnx(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_damaged_files_raise_input_errors_only(edits: list[tuple[float, str, int]], tmp_path: Path) -> None:
    """Whatever a damaged file makes of itself, it is imported or refused; nothing else escapes."""
    content = bytearray(rich_model())
    for where, what, value in edits:
        place = int(where * (len(content) - 1))
        if what == "set":
            content[place] = value
        elif what == "cut":
            del content[place : place + 1 + value % 16]
        else:
            content[place:place] = bytes([value])
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with suppress(LeptonError):
        load_onnx(path)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("own", "axis", "shape"),
    [((2,), 0, (2, 1, 1)), ((2, 3), 0, (2, 3, 1)), ((3,), 1, (3, 1)), ((3,), -2, (3, 1)), ((3, 4), 1, (3, 4)),
     ((4,), None, (4,))],
)  # fmt: skip
def test_old_broadcasts_begin_at_an_axis(
    own: tuple[int, ...], axis: int | None, shape: tuple[int, ...], constant: bool, tmp_path: Path
) -> None:
    """Before opset 7 the second operand begins at `axis` of the first, and is its suffix where none is told."""
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    b = 100 * np.arange(np.prod(own), dtype=np.float32).reshape(own)
    where = {} if axis is None else {"axis": axis}
    node = helper.make_node("Add", ["a", "b"], ["y"], name="n", broadcast=1, **where)
    feeds, constants = ({"a": a}, {"b": b}) if constant else ({"a": a, "b": b}, {})
    graph = load(build([node], feeds, ["y"], constants, 6), tmp_path)
    values = {**graph.values, **feeds}
    np.testing.assert_array_equal(evaluate(graph, values)[graph.outputs[0]], a + b.reshape(shape))


def test_an_old_broadcast_that_does_not_fit_is_told(tmp_path: Path) -> None:
    feeds = {"a": np.zeros((2, 3, 4), np.float32), "b": np.zeros((3, 4), np.float32)}
    node = helper.make_node("Mul", ["a", "b"], ["y"], name="n", broadcast=1, axis=2)
    with pytest.raises(InputError, match="axis 2: 2 dimensions do not begin there in a tensor of rank 3"):
        load(build([node], feeds, ["y"], opset=6), tmp_path)
