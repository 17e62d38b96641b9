// Sums over the tokens of a task, for the gradients of vectors per task: tokens are cut into splits
// by their number alone, so neither threads nor blocks change a result.
#pragma once
#include <cstdint>

namespace lets {

constexpr int64_t kSplitTokens = 32;

constexpr int64_t num_splits(int64_t num_tokens) {
  return (num_tokens + kSplitTokens - 1) / kSplitTokens;
}

}  // namespace lets
