"""Served graphs that were exported wrongly, made from right ones."""

from typing import Any

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper, parser

IR_VERSION, OPSET = 10, 18
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Graph = onnx.ModelProto
HEADER = f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>'


def swapped_channels(graph: Graph) -> Graph:
    """Takes BGR for RGB."""
    size = graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    shape = f"uint8[N,{size},{size},3]"
    before = parser.parse_model(f"""{HEADER}
        swap ({shape} images) => ({shape} swapped) {{
          order = Constant <value_ints = [2, 1, 0]> ()
          swapped = Gather <axis = 3> (images, order)
        }}""")
    rest = compose.add_prefix(graph, "rest/", rename_outputs=False)
    return compose.merge_models(before, rest, io_map=[("swapped", "rest/images")])


def not_divided(graph: Graph) -> Graph:
    """Pixels of 0 to 255 where the network knows 0 to 1."""
    changed = copied(graph)
    _set(changed, _division(changed).input[1], 1.0)
    return changed


def normalised_twice(graph: Graph) -> Graph:
    """ImageNet's mean and deviation, which the network was not trained with."""
    changed = copied(graph)
    division = _division(changed)
    for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
        array = np.array(values, np.float32).reshape(1, 3, 1, 1)
        changed.graph.initializer.append(numpy_helper.from_array(array, name))
    after = list(changed.graph.node).index(division) + 1
    changed.graph.node.insert(after, helper.make_node("Div", ["centred", "deviation"], [division.output[0]]))
    changed.graph.node.insert(after, helper.make_node("Sub", ["shares", "mean"], ["centred"]))
    division.output[0] = "shares"
    return changed


def shuffled_classes(graph: Graph, classes: int) -> Graph:
    """Each class is called by the number of the next one."""
    if "scores" in {output.name for output in graph.graph.output}:
        order = ", ".join(str(number % classes) for number in range(-1, classes - 1))
        return _after(
            graph,
            "scores",
            f"float[N,{classes}]",
            f"""
            order = Constant <value_ints = [{order.replace("-1", str(classes - 1))}]> ()
            changed = Gather <axis = 1> (found, order)""",
        )
    return _rows(
        graph,
        f"""
        count = Constant <value = float {{{float(classes)}}}> ()
        one = Constant <value = float {{1.0}}> ()
        next = Add (label, one)
        called = Mod <fmod = 1> (next, count)
        changed = Concat <axis = 2> (box, score, called)""",
    )


def half_a_pixel_off(graph: Graph) -> Graph:
    """Boxes that are moved by half a pixel to the right and down."""
    return _rows(
        graph,
        """
        half = Constant <value = float {0.5}> ()
        moved = Add (box, half)
        changed = Concat <axis = 2> (moved, score, label)""",
    )


def zeroed_keypoints(graph: Graph) -> Graph:
    """All keypoints at 0, 0 and seen by nobody."""
    return _after(
        graph,
        "keypoints",
        "float[N,300,K,3]",
        """
        zero = Constant <value = float {0.0}> ()
        changed = Mul (found, zero)""",
    )


def shuffled_keypoints(graph: Graph) -> Graph:
    """The last keypoint of each object first."""
    return _after(
        graph,
        "keypoints",
        "float[N,300,K,3]",
        """
        last = Constant <value_ints = [-1]> ()
        first = Constant <value_ints = [-1000]> ()
        axis = Constant <value_ints = [2]> ()
        back = Constant <value_ints = [-1]> ()
        changed = Slice (found, last, first, axis, back)""",
    )


def negated(graph: Graph, output: str, shape: str) -> Graph:
    """An output with the other sign."""
    return _after(graph, output, shape, "changed = Neg (found)")


def mirrored_angles(graph: Graph) -> Graph:
    """Angles of rotated boxes that are counted the other way round."""
    return _after(
        graph,
        "rotated",
        "float[N,300,5]",
        """
        parts = Constant <value_ints = [4, 1]> ()
        box, angle = Split <axis = 2> (found, parts)
        mirrored = Neg (angle)
        changed = Concat <axis = 2> (box, mirrored)""",
    )


def suppressing(graph: Graph, iou: float) -> Graph:
    """Another threshold of NMS."""
    changed = copied(graph)
    (nms,) = [node for node in changed.graph.node if node.op_type == "NonMaxSuppression"]
    _set(changed, nms.input[3], iou)
    return changed


def _rows(graph: Graph, steps: str) -> Graph:
    """`steps` makes `changed` out of box, score and label of the detections."""
    return _after(
        graph,
        "detections",
        "float[N,300,6]",
        f"""
        parts = Constant <value_ints = [4, 1, 1]> ()
        box, score, label = Split <axis = 2> (found, parts)
        {steps}""",
    )


def _after(graph: Graph, output: str, shape: str, steps: str) -> Graph:
    """`steps` makes `changed` out of what was `found` at an output; the other outputs stay."""
    after = parser.parse_model(f"{HEADER} after ({shape} found) => ({shape} changed) {{ {steps} }}")
    after = compose.add_prefix(after, "planted/")
    joint = compose.merge_models(graph, after, io_map=[(output, "planted/found")])
    return _renamed(joint, "planted/changed", output)


def _renamed(graph: Graph, name: str, output: str) -> Graph:
    """An output under another name; what had that name before gives way."""
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for place, found in enumerate(names):
                names[place] = {output: f"{output}-before", name: output}.get(found, found)
    for value in graph.graph.output:
        value.name = output if value.name == name else value.name
    return graph


def copied(graph: Graph) -> Graph:
    """A graph of its own, with all constants as initializers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for node in [node for node in changed.graph.node if node.op_type == "Constant"]:
        value = helper.get_attribute_value(node.attribute[0])
        array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        changed.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        changed.graph.node.remove(node)
    return changed


def _constant(graph: Graph, name: str) -> onnx.TensorProto | None:
    return next((tensor for tensor in graph.graph.initializer if tensor.name == name), None)


def _set(graph: Graph, name: str, value: float) -> None:
    tensor = _constant(graph, name)
    assert tensor is not None
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), value), name))


def _division(graph: Graph) -> Any:
    """Where bytes become shares."""
    for node in graph.graph.node:
        divisor = _constant(graph, node.input[1]) if node.op_type == "Div" else None
        if divisor is not None and (numpy_helper.to_array(divisor) == 255).all():
            return node
    raise AssertionError("expected a division by 255")


def wrong_exports(graph: Graph, classes: int) -> dict[str, Graph]:
    """Those that must be stopped, by what is wrong with them; more of a task that gives more than boxes."""
    outputs = {output.name for output in graph.graph.output}
    wrong = {
        "swapped channels": swapped_channels(graph),
        "no division by 255": not_divided(graph),
        "ImageNet mean and deviation": normalised_twice(graph),
        "shuffled classes": shuffled_classes(graph, classes),
    }
    if "keypoints" in outputs:
        wrong |= {"no keypoints": zeroed_keypoints(graph), "shuffled keypoints": shuffled_keypoints(graph)}
    if "coefficients" in outputs:
        wrong["masks of the wrong sign"] = negated(graph, "coefficients", "float[N,300,M]")
    if "rotated" in outputs:
        wrong["angles of the wrong sign"] = mirrored_angles(graph)
    return wrong


def slightly_wrong_exports(graph: Graph) -> dict[str, Graph]:
    """Those of detectors that may pass: they change little of what is found."""
    return {
        "boxes half a pixel off": half_a_pixel_off(graph),
        "NMS at 0.45": suppressing(graph, 0.45),
        "NMS at 0.9": suppressing(graph, 0.9),
    }
