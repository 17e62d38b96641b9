from typing import Any

import numpy as np
from numpy.typing import NDArray

def build_info() -> dict[str, Any]: ...
def validate_csr(
    crow_indices: NDArray[np.int32], col_indices: NDArray[np.int32], rows: int, columns: int
) -> None: ...
def transpose_csr(
    crow_indices: NDArray[np.int32],
    col_indices: NDArray[np.int32],
    num_tasks: int,
    out_features: int,
    in_features: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]: ...
