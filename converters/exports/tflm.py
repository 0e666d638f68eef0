"""What an export for TensorFlow Lite Micro has in place of the kernels' own model image."""

import dataclasses

from converters.firmware import size_arena, tflm_files
from converters.kernels import fixed_point, fused_graph
from converters.tflite import graph as graph_lib
from converters.tflite import model_folder, reader
from converters.tflm import arena_model, target

# The fused operators' scratch depends on the kernels' implementation, here by the macro that
# embbert_kernels.h defines for each; the other kernels of TFLM are not in use.
_CORES = {
    "EMBBERT_USE_MVE": "cortex-m55",
    "EMBBERT_USE_DSP": "cortex-m4",
    "EMBBERT_USE_PORTABLE": "cortex-m0",
}
# Of tflm_app/tflm, by the folder of an ecosystem where they belong.
HEADERS = ("embbert_tflm.h", "embbert_ops.h", "embbert_op_checks.h")
SOURCES = ("embbert_tflm.cc", "embbert_ops.cc")


@dataclasses.dataclass(frozen=True)
class FusedModel:
    """A model for TensorFlow Lite Micro.

    Attributes:
        image: The model image with the fused graph in place of the kernels' weights.
        arenas: {macro of the kernels' implementation: bytes of arena}.
    """

    image: bytes
    arenas: dict[str, int]


def fused(model: model_folder.ModelFolder, name: str | None) -> FusedModel:
    """Fuses a model's graph and predicts the arena that it takes.

    Args:
        model: The model.
        name: What the firmware calls it; None for its folder's name.

    Raises:
        TflmError: The graph cannot be fused or does not suit the engine.
    """
    sizes = tflm_files.sizes_of(model)
    try:
        tflite = fused_graph.fuse(model.tflite)
        graph = reader.read(tflite)
    except (graph_lib.FlatbufferError, fixed_point.KernelParamsError) as error:
        raise tflm_files.TflmError(f"the model's graph: {error}") from error
    tflm_files.check(graph, sizes.labels, sizes.max_length)
    arenas = {
        macro: arena_model.predict([graph], target.make(core, "reference")).bytes
        + size_arena.MARGIN
        for macro, core in _CORES.items()
    }
    return FusedModel(tflm_files.tflm_image(model, sizes, tflite, name), arenas)
