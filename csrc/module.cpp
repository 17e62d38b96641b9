// Python module lets_ext._host: the host library over numpy. Only this file includes pybind11.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "host/csr.h"

namespace py = pybind11;

namespace {

// No conversion on the way in: a wrong dtype is an error of the caller, not a silent copy.
using Int32Array = py::array_t<int32_t, py::array::c_style>;

std::span<const int32_t> view(const Int32Array& array, const char* name) {
  if (array.ndim() != 1)
    throw py::value_error(std::string("delta layout: ") + name + " must have one dimension, got " +
                          std::to_string(array.ndim()));
  return {array.data(), static_cast<size_t>(array.size())};
}

// A numpy array that owns the vector's memory.
py::array_t<int32_t> to_numpy(std::vector<int32_t>&& values) {
  auto owner = std::make_unique<std::vector<int32_t>>(std::move(values));
  auto* data = owner.get();
  py::capsule capsule(data, [](void* p) { delete static_cast<std::vector<int32_t>*>(p); });
  owner.release();
  return py::array_t<int32_t>(static_cast<py::ssize_t>(data->size()), data->data(), capsule);
}

py::dict build_info() {
  py::dict info;
  info["build_type"] = LETS_BUILD_TYPE;
  info["compiler"] = __VERSION__;
  info["x86_isas"] = bool(LETS_HAVE_X86_ISAS);
  info["native_arch"] = bool(LETS_NATIVE);
  info["cuda"] = bool(LETS_HAVE_CUDA);
  info["cuda_switched_off"] = bool(LETS_CUDA_SWITCHED_OFF);
  info["cuda_archs"] = LETS_HAVE_CUDA ? LETS_CUDA_ARCHS : "";
  return info;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Torch-free host library of lets_ext.";
  m.def("build_info", &build_info);
  m.def(
      "validate_csr",
      [](const Int32Array& crow, const Int32Array& col, int64_t rows, int64_t columns) {
        lets::host::validate_csr(view(crow, "crow_indices"), view(col, "col_indices"), rows,
                                 columns);
      },
      py::arg("crow_indices").noconvert(), py::arg("col_indices").noconvert(), py::arg("rows"),
      py::arg("columns"));
  m.def(
      "transpose_csr",
      [](const Int32Array& crow, const Int32Array& col, int64_t num_tasks, int64_t out_features,
         int64_t in_features) {
        auto t = lets::host::transpose_csr(view(crow, "crow_indices"), view(col, "col_indices"),
                                           num_tasks, out_features, in_features);
        return py::make_tuple(to_numpy(std::move(t.ccol)), to_numpy(std::move(t.row)),
                              to_numpy(std::move(t.permutation)));
      },
      py::arg("crow_indices").noconvert(), py::arg("col_indices").noconvert(), py::arg("num_tasks"),
      py::arg("out_features"), py::arg("in_features"));
}
