#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/Exception.h>

#include <string>

#include "kernels/isa.h"

namespace {

std::string select_isa(const std::string& name) {
  if (!name.empty())
    STD_TORCH_CHECK(lets::select_isa(name.c_str()),
                    "select_isa: name must be baseline, avx2 or avx512 and supported by this "
                    "machine and build, got ",
                    name);
  return lets::isa_name(lets::selected_isa());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lets_ext, CompositeExplicitAutograd, m) {
  m.impl("select_isa", TORCH_BOX(&select_isa));
}
