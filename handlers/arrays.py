"""Names for the array types of the whole project: the element type is said, the shape stands in each docstring."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
"""Floating-point numbers of any precision."""
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]
"""Integers of any width, signed or not."""
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
UInt64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]
