"""Networks as ONNX graphs, which other runtimes compute: `onnxruntime` in Python, its WebAssembly build in a page.

The design decision: torch's tracing exporter, which needs nothing beside `onnx` and takes seconds. Its graphs run as fast
as those of the newer exporter, which takes ten times as long and two packages more.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from sdkit.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["graph_of", "need", "reduced"]

_OPSET = 20
_WHOLE = 1e-3  # how near to a whole number a level must be; rounding to half precision moves the largest by 0.06
_SMALL = 64  # values; what is smaller stays as it is: casting it back costs more than it saves


def need(*packages: str, what: str) -> None:
    """Raise `MissingExtra` if a package of the extra ``fast`` is not installed; `what` is told to need it."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(
                f"{what} needs {package}, which is not installed: run pip install 'sdkit-notebooks[fast]'"
            )


def graph_of(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    free: Mapping[str, Mapping[int, str]],
) -> bytes:
    """Export a network as an ONNX graph with its weights inside, below 2 GB.

    Parameters
    ----------
    network
        Takes the inputs in their order, and answers with a tensor or a tuple of them.
    inputs
        Name → an example of each input.
    outputs
        Names of what it answers.
    free
        Input → its axes whose length may differ from the example's, with a name for each.

    Returns
    -------
    bytes
        The graph, as `onnx` and `onnxruntime` read it.
    """
    import torch

    stream = BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what tracing warns of, shapes held constant, is meant
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            stream,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in free.items()},
            opset_version=_OPSET,
            dynamo=False,
        )
    return stream.getvalue()


def reduced(graph: bytes) -> bytes:
    """Store a graph's weights small: in eight bits where these say exactly the same, else in half precision.

    They become single precision again where they are used. The runtime does that once, when it opens the graph, so that
    only the file is smaller and not the arithmetic.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(graph)
    nodes, scales = [], []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < _SMALL:
            continue
        name, values = weight.name, numpy_helper.to_array(weight)
        scale = _rows(values)
        stored = values.astype(np.float16) if scale is None else (values / scale).round().astype(np.int8)  # fmt: skip
        whole = name if scale is None else f"{name}.levels"
        weight.CopyFrom(numpy_helper.from_array(stored, f"{name}.small"))
        nodes.append(helper.make_node("Cast", [weight.name], [whole], to=onnx.TensorProto.FLOAT))
        if scale is not None:
            scales.append(numpy_helper.from_array(scale, f"{name}.scale"))
            nodes.append(helper.make_node("Mul", [whole, f"{name}.scale"], [name]))
    model.graph.initializer.extend(scales)
    nodes.extend(model.graph.node)  # a graph's nodes stand in the order in which they run
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _rows(values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The scales by which rows (or columns, as exported) are whole numbers of at most 127 in size; None if they are not."""
    import numpy as np

    for axis in (0, values.ndim - 1) if values.ndim > 1 else ():
        others = tuple(n for n in range(values.ndim) if n != axis)
        scale = np.abs(values).max(others, keepdims=True) / np.float32(127)
        scale[scale == 0] = 1
        levels = values / scale
        if np.abs(levels - levels.round()).max() < _WHOLE:
            return scale
    return None
