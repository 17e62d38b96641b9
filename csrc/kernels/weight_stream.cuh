// The weights that a block multiplies, as one stream through all layers and phases of cls_tail.
// Every lane copies its own words into shared memory some steps ahead and is the only one to read
// them, so loads stay on their way during reductions, norms and barriers of the grid.
#pragma once
#include "kernels/cls_tail_cuda.h"
#include "kernels/gpu.h"

namespace lets::gpu {

constexpr int kTailThreads = 256, kTailWarps = kTailThreads / 32;
constexpr int kTailOutputs = 8;  // per tile: the columns of one tensor-core product

enum class TailStep { kAttn, kUp, kDown, kNorm };

template <typename T, int kMaxLayers>
struct TailLayers {
  ClsTailCudaParams<T> layer[kMaxLayers];
  int num_layers;
  int rows_per_pass;  // rows that are staged at a time; further ones read the weights again

  __device__ const TailLinear<T>& linear(TailStep step, int i) const {
    return step == TailStep::kAttn ? layer[i].attn
           : step == TailStep::kUp ? layer[i].up
                                   : layer[i].down;
  }
  __device__ int64_t num_rows(int i) const { return layer[i].num_tasks * layer[i].num_rows; }
};

// A step's outputs of all layers in a row, cut into equal parts, one per block: every weight is
// read by one block. Parts of more than a tile are whole tiles.
struct TailParts {
  int outputs, size;

  __device__ TailParts(int num_layers, int outputs) : outputs(outputs) {
    size = ceil_div(num_layers * outputs, static_cast<int>(gridDim.x));
    if (size > kTailOutputs) size = ceil_div(size, kTailOutputs) * kTailOutputs;
  }
  // What this block has of a layer; begin >= end: nothing.
  __device__ int begin(int layer) const {
    const int first = static_cast<int>(blockIdx.x) * size - layer * outputs;
    return first < 0 ? 0 : first;
  }
  __device__ int end(int layer) const {
    return smaller(static_cast<int>(blockIdx.x + 1) * size - layer * outputs, outputs);
  }
  // The blocks that have something of a layer.
  __device__ int first_block(int layer) const { return layer * outputs / size; }
  __device__ int num_blocks(int layer) const {
    return ((layer + 1) * outputs - 1) / size - first_block(layer) + 1;
  }
};

// kTensor: a step is 8 outputs by 32 features per warp, 8 neighbours per lane. Otherwise 4 outputs
// by kVector features per lane, the two halves of a tile one after the other.
template <typename T, bool kTensor, int kVector, int kMaxLayers>
class WeightStream {
 public:
  static constexpr int kBytes = kVector * sizeof(T);
  static constexpr int kWords = kTensor ? 1 : kTailOutputs / 2;  // of a lane in a step
  static constexpr int kStages = kTensor ? 10 : 3;               // about 40 KB on their way
  static constexpr int kSharedBytes = kStages * kWords * kTailThreads * kBytes;
  static constexpr int kFeatures = kTailThreads * kVector / (kTensor ? kTailOutputs : 1);
  using Word = Pack<T, kBytes>;

  // Starts with the first weights of `step`; ends before `last`.
  __device__ WeightStream(const TailLayers<T, kMaxLayers>& layers, TailStep step, TailStep last,
                          unsigned char* shared)
      : layers_(layers), step_(step), last_(last), ring_(reinterpret_cast<Word*>(shared)) {
    layer_ = -1;
    next_layer();
    for (int i = 0; i < kStages - 1; ++i) issue();
  }

  // The words of the lane's next step: zeros beyond the outputs and the features.
  __device__ void next(Word (&words)[kWords]) {
    wait_for_copies<kStages - 2>();
    issue();  // into the stage that was read last time
#pragma unroll
    for (int w = 0; w < kWords; ++w) words[w] = load_pack<kBytes>(word(read_, w)->v);
    read_ = read_ + 1 == kStages ? 0 : read_ + 1;
  }

 private:
  __device__ Word* word(int stage, int w) const {
    return ring_ + (stage * kWords + w) * kTailThreads + threadIdx.x;
  }

  __device__ void issue() {
    if (step_ != last_) {
      const TailLinear<T>& linear = layers_.linear(step_, layer_);
      const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
      const int features = static_cast<int>(linear.in_features);
      const int k = first_feature_ +
                    (kTensor ? (warp * 4 + lane % 4) * 8 : static_cast<int>(threadIdx.x) * kVector);
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        const int output = first_ + (kTensor ? lane / 4 : half_ * kWords + w);
        const bool valid = output < end_ && k < features;
        const int64_t offset = valid ? static_cast<int64_t>(output) * features + k : 0;
        copy_async<kBytes>(word(write_, w), linear.weight + offset, valid);
      }
      advance(features);
    }
    end_copy_group();
    write_ = write_ + 1 == kStages ? 0 : write_ + 1;
  }

  __device__ void advance(int features) {
    first_feature_ += kFeatures;
    if (first_feature_ < features) return;
    first_feature_ = 0;
    half_ = 1 - half_;
    if (!kTensor && half_ != 0) return;
    first_ += kTailOutputs;
    if (first_ < end_) return;
    rows_left_ -= layers_.rows_per_pass;
    first_ = begin_;
    if (rows_left_ <= 0) next_layer();
  }

  __device__ void next_layer() {
    do {
      if (++layer_ == layers_.num_layers) {
        layer_ = 0;
        step_ = static_cast<TailStep>(static_cast<int>(step_) + 1);
        if (step_ == last_) return;
      }
      const TailParts parts(layers_.num_layers,
                            static_cast<int>(layers_.linear(step_, layer_).out_features));
      first_ = begin_ = parts.begin(layer_);
      end_ = parts.end(layer_);
    } while (begin_ >= end_);
    rows_left_ = layers_.num_rows(layer_);
  }

  const TailLayers<T, kMaxLayers>& layers_;
  TailStep step_;
  const TailStep last_;
  Word* const ring_;
  int layer_, begin_, end_, first_, first_feature_ = 0, half_ = 0, read_ = 0, write_ = 0;
  int64_t rows_left_;
};

}  // namespace lets::gpu
